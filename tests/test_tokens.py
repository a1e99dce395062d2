"""The text of a token: it is generated, recognised and digested."""

import hashlib
import string
import uuid
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users_knox import tokens

pytestmark = pytest.mark.unmeasured

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
BODY = 51  # characters after the prefix
TAGS = st.text(BASE62, min_size=2, max_size=2)
PREFIXES = st.text(BASE62 + "_", max_size=20)
SOME_TEXT = st.text(st.characters())  # any code point, including surrogates

# No release may change these values: databases, clients and secret scanners depend on them.
TOKEN = "knox_Ab0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg27jFhm"
SHA256 = "157f5b8b6b750233b53001909686dbe27c9f7a6695f2cbb02031983bc746cd99"
HMAC_SHA256 = "316e509af1aa4352e403783a92b201fef1abccbfae4323e7cfac15900abcf62a"  # the key is 32 times "k"


@st.composite
def new_tokens(draw: st.DrawFn) -> str:
    """Draw a token with any prefix and tag."""
    return tokens.generate(draw(TAGS), prefix=draw(PREFIXES))


def base62(number: int, length: int) -> str:
    """Write a number in base62, with this many digits."""
    return "".join(BASE62[number // 62**place % 62] for place in reversed(range(length)))


def checksummed(unsigned: str) -> str:
    """Append the checksum that a token with this text would have."""
    return unsigned + base62(zlib.crc32(unsigned.encode()), 6)


# generated


@given(tag=TAGS, prefix=PREFIXES)
def test_what_is_generated_is_recognised(tag: str, prefix: str) -> None:
    """A generated token is recognised, with any prefix and tag."""
    text = tokens.generate(tag, prefix=prefix)

    assert text.startswith(prefix + tag)
    assert len(text) == len(prefix) + BODY
    assert tokens.parse(text) == tag


def test_a_token_holds_256_random_bits() -> None:
    """Each of the secret's 256 bits varies."""
    secrets = [tokens.generate("Ab", prefix="")[2:-6] for _ in range(300)]

    numbers = [sum(BASE62.index(c) * 62**place for place, c in enumerate(reversed(text))) for text in secrets]

    ever, always = 0, 2**256 - 1
    for number in numbers:
        ever, always = ever | number, always & number
    assert (ever, always) == (2**256 - 1, 0)


# recognised


def test_the_shape_stays() -> None:
    """A token of an earlier release is recognised."""
    assert checksummed(TOKEN[:-6]) == TOKEN
    assert tokens.parse(TOKEN) == "Ab"


@given(text=new_tokens(), data=st.data(), character=st.characters())
def test_one_changed_character_is_refused(text: str, data: st.DataObject, character: str) -> None:
    """A token with one changed character is refused, wherever it is."""
    place = data.draw(st.integers(0, len(text) - 1))

    changed = text[:place] + character + text[place + 1 :]

    assert (tokens.parse(changed) is None) == (changed != text)


@given(text=new_tokens(), data=st.data())
def test_two_swapped_neighbours_are_refused(text: str, data: st.DataObject) -> None:
    """A token with two neighbouring characters swapped is refused."""
    place = data.draw(st.integers(0, len(text) - 2))

    swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]

    assert (tokens.parse(swapped) is None) == (swapped != text)


@given(SOME_TEXT)
def test_any_text_is_refused(text: str) -> None:
    """Any text that is not a token gives None, and never an error."""
    assert tokens.parse(text) is None


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(header: bytes) -> None:
    """Any bytes of a header, decoded as ISO 8859-1, give None."""
    assert tokens.parse(header.decode("latin-1")) is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        TOKEN + "\n",
        "\n" + TOKEN,
        TOKEN + "\0",
        TOKEN + " ",
        TOKEN[:5] + "\0" + TOKEN[6:],
        TOKEN.replace("0", "\N{ARABIC-INDIC DIGIT ZERO}"),
        TOKEN.replace("A", "\N{FULLWIDTH LATIN CAPITAL LETTER A}"),
        TOKEN.replace("K", "\N{KELVIN SIGN}"),
        TOKEN.lower(),
        TOKEN.upper(),
        "\ud800" * BODY,
        "é" * BODY,
        TOKEN[1:],
        TOKEN[:-1],
        TOKEN * 2,
        TOKEN * 20_000,
    ],
    ids=lambda text: ascii(text)[:40],
)
def test_what_is_almost_a_token_is_refused(text: str | None) -> None:
    """A token in another alphabet or case, cut, or with other characters around it is refused."""
    assert tokens.parse(text) is None


@pytest.mark.parametrize(
    "unsigned",
    [
        "x" * 21 + "0" * 45,
        "0" * 44,
        "knox-" + "0" * 45,
        "_" * 45,
        "knox_" + "\N{ARABIC-INDIC DIGIT ZERO}" * 45,
        "\N{FULLWIDTH LATIN SMALL LETTER K}nox_" + "0" * 45,
        "knox_" + "0" * 44 + "\n",
        "\n" + "0" * 45,
        "0" * 52 + "\n",
    ],
    ids=ascii,
)
def test_a_right_checksum_alone_makes_no_token(unsigned: str) -> None:
    """A text with a right checksum but a wrong alphabet or length is refused."""
    assert tokens.parse(checksummed(unsigned)) is None


@pytest.mark.parametrize("prefix", ["", "_" * 20])
def test_the_bounds_of_the_prefix_are_legal(prefix: str) -> None:
    """A prefix may have 0 and 20 characters."""
    assert tokens.parse(checksummed(prefix + "0" * 45)) is not None


# digested


def test_the_digests_stay() -> None:
    """The digest is computed from the whole token, as in earlier releases."""
    plain, keyed = tokens.digest(TOKEN), tokens.digest(TOKEN, key=b"k" * 32)

    assert plain.hex() == SHA256 == hashlib.sha256(TOKEN.encode()).hexdigest()
    assert keyed.hex() == HMAC_SHA256


@given(one=new_tokens(), other=new_tokens(), key=st.none() | st.binary(min_size=32))
def test_digests_are_32_bytes_and_differ(one: str, other: str, key: bytes | None) -> None:
    """Digests have 32 bytes and differ for different tokens and different keys."""
    digests = [tokens.digest(text, key=key) for text in (one, other)]

    assert [len(digest) for digest in digests] == [32, 32]
    assert digests[0] != digests[1]
    assert tokens.digest(one, key=b"another key, 32 bytes and longer") != digests[0]


@pytest.mark.parametrize(
    ("user_id", "tag"),
    [(uuid.UUID(int=1), "tK"), (1, "s3"), ("507f1f77bcf86cd799439011", "8D")],
    ids=["UUID", "int", "ObjectId"],
)
def test_the_tags_stay(user_id: object, tag: str) -> None:
    """A user's routing tag never changes, because it is part of stored keys."""
    assert tokens.routing_tag(user_id) == tag


@given(st.uuids() | st.integers() | st.text())
def test_any_id_has_a_tag(user_id: object) -> None:
    """Any kind of id has a constant tag of two characters, which fits into a token."""
    tag = tokens.routing_tag(user_id)

    assert tag == tokens.routing_tag(user_id)
    assert tokens.parse(tokens.generate(tag, prefix="")) == tag


def test_the_tags_spread() -> None:
    """60,000 users have all of the 3844 tags, so a cluster's slots fill evenly."""
    assert len({tokens.routing_tag(number) for number in range(60_000)}) == 62**2
