"""The token's text: made, recognised and digested here, without any input or output.

A token is a prefix, a routing tag of 2 characters, a secret of 43 and a checksum of 6, all base62 after the prefix:
selectable by a double click, and found by one regular expression. The secret holds 256 bits from the operating
system's generator (ASVS 11.5.1); the checksum is the CRC-32 of all that stands before it, so that junk is refused
without asking a store, as GitHub's tokens do.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["ParsedToken", "digest", "find_all", "generate", "parse", "routing_tag"]

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_TAG_LENGTH = 2
_SECRET_LENGTH = 43  # 62**43 > 2**256
_CHECKSUM_LENGTH = 6  # 62**6 > 2**32
_BODY_LENGTH = _TAG_LENGTH + _SECRET_LENGTH + _CHECKSUM_LENGTH
_MAX_LENGTH = 20 + _BODY_LENGTH
_SHAPE = re.compile(rf"[0-9A-Za-z_]{{0,20}}[0-9A-Za-z]{{{_BODY_LENGTH}}}")
_WORD = re.compile(rf"(?<![0-9A-Za-z_])[0-9A-Za-z_]{{{_BODY_LENGTH},{_MAX_LENGTH}}}(?![0-9A-Za-z_])")


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedToken:
    """A text that has the shape of one of our tokens; whether it is one, only a store can tell.

    Attributes:
        text: The whole token, kept out of the repr.
        tag: The routing tag, 2 base62 characters.
    """

    text: str = field(repr=False)
    tag: str


def generate(tag: str, *, prefix: str) -> str:
    """Make a new token.

    Args:
        tag: The user's routing tag.
        prefix: 0 to 20 characters of `[A-Za-z0-9_]`.
    """
    unsigned = prefix + tag + _base62(secrets.randbits(256), _SECRET_LENGTH)
    return unsigned + _checksum(unsigned)


def parse(text: str | None) -> ParsedToken | None:
    """Recognise a token by alphabet, length and checksum, whatever its prefix; `None` for any other text."""
    if text is None or not _BODY_LENGTH <= len(text) <= _MAX_LENGTH or not _SHAPE.fullmatch(text):
        return None
    if _checksum(text[:-_CHECKSUM_LENGTH]) != text[-_CHECKSUM_LENGTH:]:
        return None
    return ParsedToken(text=text, tag=text[-_BODY_LENGTH:][:_TAG_LENGTH])


def find_all(text: str) -> Iterator[ParsedToken]:
    """Find every token in a longer text, such as a header: each stands alone between other characters."""
    return filter(None, map(parse, _WORD.findall(text)))


def digest(text: str, *, key: bytes | None = None) -> bytes:
    """Hash a whole token, prefix included, to 32 bytes: SHA-256, or HMAC-SHA-256 where there is a key.

    A fast hash is right here: it protects 256 random bits, which no one can guess, not a password.
    """
    if key is None:
        return hashlib.sha256(text.encode()).digest()
    return hmac.digest(key, text.encode(), "sha256")


def routing_tag(user_id: object) -> str:
    """Derive the 2 base62 characters that put all keys of one user in one slot of a Redis Cluster."""
    seed = hashlib.sha256(str(user_id).encode()).digest()
    return _base62(int.from_bytes(seed) % 62**_TAG_LENGTH, _TAG_LENGTH)


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    characters = []
    for _ in range(length):
        number, remainder = divmod(number, 62)
        characters.append(_BASE62[remainder])
    return "".join(reversed(characters))
