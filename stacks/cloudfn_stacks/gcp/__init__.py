"""The stack of a plan on Google Cloud: small components, one concept a file, and a program."""
