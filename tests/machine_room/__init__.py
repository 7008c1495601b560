"""Rooms in which the cloud's instances are real Debian machines; see `room.py`."""
