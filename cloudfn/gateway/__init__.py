"""The gateway: URLs of web functions on this machine. `docs/web.md`."""
