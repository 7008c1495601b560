"""The host's page: what it keeps and does, in a browser on this machine. `docs/observability.md` tells of it."""
