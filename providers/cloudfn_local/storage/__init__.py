"""Volumes, dicts and queues of this machine: SQLite and a folder, kept by one process for each user."""
