"""`python -m cloudfn`."""

from cloudfn.cli.main import run

run()
