"""The text of a token: pure functions that generate, parse and digest it.

A token consists of a prefix, a routing tag of 2 characters, a secret of 43 characters and a checksum of 6 characters.
Everything after the prefix is base62, so a double click selects a token and one regular expression finds it. The secret
has 256 bits from the operating system's random number generator (ASVS 11.5.1). The checksum is the CRC-32 of everything
before it. Because of the checksum, text that is not a token is refused without a call to the store. GitHub's tokens
have a checksum too.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["PresentedToken", "digest", "find_all", "generate", "parse", "prefix_of", "routing_tag"]

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_TAG_LENGTH = 2
_SECRET_LENGTH = 43  # 62**43 > 2**256
_CHECKSUM_LENGTH = 6  # 62**6 > 2**32
_BODY_LENGTH = _TAG_LENGTH + _SECRET_LENGTH + _CHECKSUM_LENGTH
_MAX_LENGTH = 20 + _BODY_LENGTH
_SHAPE = re.compile(rf"[0-9A-Za-z_]{{0,20}}[0-9A-Za-z]{{{_BODY_LENGTH}}}")
_PAIRS = [high + low for high in _BASE62 for low in _BASE62]
_WORD = re.compile(rf"(?<![0-9A-Za-z_])[0-9A-Za-z_]{{{_BODY_LENGTH},{_MAX_LENGTH}}}(?![0-9A-Za-z_])")


@dataclass(frozen=True, kw_only=True, slots=True)
class PresentedToken:
    """A token that a client has presented, in the form in which a store receives it: without its text.

    Attributes:
        tag: The routing tag.
        digests: The digests under which the token may be stored, 32 bytes each. A new token is stored under the first
            digest.
    """

    tag: str
    digests: tuple[bytes, ...] = field(repr=False)


def generate(tag: str, *, prefix: str) -> str:
    """Generate a new token.

    Args:
        tag: The user's routing tag.
        prefix: 0 to 20 characters of `[A-Za-z0-9_]`.
    """
    unsigned = prefix + tag + _base62(secrets.randbits(256), _SECRET_LENGTH)
    return unsigned + _checksum(unsigned)


def parse(text: str | None) -> str | None:
    """Return the routing tag if a text has the shape of a token, and `None` otherwise.

    Only the alphabet, the length and the checksum are checked, and any prefix is accepted. Only a store knows whether
    the text is a token.
    """
    if text is None or not _BODY_LENGTH <= len(text) <= _MAX_LENGTH or not _SHAPE.fullmatch(text):
        return None
    if _checksum(text[:-_CHECKSUM_LENGTH]) != text[-_CHECKSUM_LENGTH:]:
        return None
    return text[-_BODY_LENGTH : _TAG_LENGTH - _BODY_LENGTH]


def prefix_of(token: str) -> str:
    """Return the prefix of a text that has the shape of a token."""
    return token[:-_BODY_LENGTH]


def find_all(text: str) -> Iterator[str]:
    """Find the tokens in a longer text, such as a header, if they touch no other letter, digit or underscore."""
    return filter(parse, _WORD.findall(text))


def digest(text: str, *, key: bytes | None = None) -> bytes:
    """Hash a whole token, including its prefix, to 32 bytes: with SHA-256, or with HMAC-SHA-256 if a key is given.

    A fast hash is enough, because a token has 256 random bits that nobody can guess. A password would need a slow hash.
    """
    if key is None:
        return hashlib.sha256(text.encode()).digest()
    return hmac.digest(key, text.encode(), "sha256")


def routing_tag(user_id: object) -> str:
    """Derive a user's tag: 2 base62 characters that put all Redis keys of the user in one slot of a Redis Cluster."""
    seed = hashlib.sha256(str(user_id).encode()).digest()
    return _base62(int.from_bytes(seed) % 62**_TAG_LENGTH, _TAG_LENGTH)


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    """Write a number with this many base62 digits. Writing two at a time takes half the time."""
    pairs = []
    for _ in range(0, length, 2):
        number, pair = divmod(number, len(_PAIRS))
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs))[-length:]
