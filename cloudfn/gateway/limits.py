"""What the gateway takes from a client, and how long it waits for one. `docs/web.md` lists these for users."""

HEAD_BYTES = 32 * 1024  # of a request's line and headers together, names and values
HEAD_FIELDS = 128
HEAD_SECONDS = 15.0  # for a request's head to arrive, from the connection's or the head's first byte
BODY_SECONDS = 60.0  # without a byte of a body that somebody waits for
WRITE_SECONDS = 60.0  # in which a client takes nothing of what waits for it
KEEP_ALIVE_SECONDS = 30  # between two requests of a connection
WEBSOCKET_BYTES = 16 * 1024 * 1024  # of one message
CONNECTIONS = 4096  # and half of what the system lets the process have open, if that is less
IN_FLIGHT = 2048  # requests of one function that wait or run
PING_SECONDS = 20.0  # between pings of a websocket, and for the answer to one
