"""What an event and a record say about the client that made a request."""

from dataclasses import dataclass

from fastapi.requests import HTTPConnection

from fastapi_users_knox.tokens import find_all

__all__ = ["ClientInfo", "describe_client"]

_LENGTHS = {"name": 128, "device_id": 128, "user_agent": 256, "ip_address": 64}


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientInfo:
    """What is known about the client that makes a request. The client can choose all values except its address.

    Attributes:
        name: The name that the client gives itself, cut to 128 characters.
        device_id: The stable identifier that the client uses for its device, cut to 128 characters. A login replaces
            the user's earlier record of the same device.
        user_agent: The `User-Agent`, cut to 256 characters.
        ip_address: The client's address, as the server sees it, cut to 64 characters.
    """

    name: str | None = None
    device_id: str | None = None
    user_agent: str | None = None
    ip_address: str | None = None

    def __post_init__(self) -> None:
        """Remove characters that cannot be printed, and cut each text to its maximum length.

        One of these characters is NUL, which SQL databases refuse. A text that contains a token is dropped, because a
        client may send a token in any header.
        """
        for attribute, length in _LENGTHS.items():
            text = (getattr(self, attribute) or "")[: 4 * length]
            kept = "" if any(find_all(text)) else "".join(filter(str.isprintable, text)).strip()
            object.__setattr__(self, attribute, kept[:length] or None)


def describe_client(request: HTTPConnection) -> ClientInfo:
    """Describe the client by the headers `User-Agent`, `X-Device-Name` and `X-Device-Id`, and by its address.

    Forwarding headers are not trusted. Behind a proxy, configure the server to set the client's address, for example
    with uvicorn's `--forwarded-allow-ips`.
    """
    return ClientInfo(
        name=request.headers.get("X-Device-Name"),
        device_id=request.headers.get("X-Device-Id"),
        user_agent=request.headers.get("User-Agent"),
        ip_address=request.client.host if request.client else None,
    )
