"""Names of `tests.asgi` under their earlier address, until all tests that use them are moved."""

from tests.asgi import Socket, socket_to

__all__ = ["Socket", "socket_to"]
