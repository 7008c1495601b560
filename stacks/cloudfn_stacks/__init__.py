"""Pulumi programs: what a plan becomes in the user's account."""
