"""The stack of a plan on AWS: small components, one concept a file, and a program."""
