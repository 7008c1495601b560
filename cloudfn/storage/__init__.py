"""Volumes, dicts and queues: what a provider implements, and how the API and workers reach it."""
