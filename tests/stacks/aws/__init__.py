"""Stacks on AWS."""
