"""The password hashes of Django, verified by FastAPI-Users and replaced by Argon2 at the next login."""

import base64
import hashlib
import hmac

from fastapi_users.password import PasswordHelper
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.base import ensure_str
from pwdlib.hashers.bcrypt import BcryptHasher


class DjangoHasher:
    """A hash that begins with the name of its algorithm, and is only verified, never created."""

    algorithms: tuple[str, ...] = ()

    @classmethod
    def identify(cls, hash: str | bytes) -> bool:
        """Return whether this class verifies a hash."""
        return ensure_str(hash).startswith(cls.algorithms)

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        """Refuse to create a hash, because new hashes are Argon2."""
        raise NotImplementedError

    def verify(self, password: str | bytes, hash: str | bytes) -> bool:
        """Return whether a password is right."""
        return self.matches(ensure_str(password), ensure_str(hash))

    def matches(self, password: str, encoded: str) -> bool:
        """Return whether a password is right; here for a user without a usable password, who cannot log in."""
        return False

    def check_needs_rehash(self, hash: str | bytes) -> bool:
        """Return that the hash should be replaced."""
        return True


class Unusable(DjangoHasher):
    """The mark of a user without a password, such as one who logs in through another provider."""

    algorithms = ("!",)


class PBKDF2(DjangoHasher):
    """Django's default."""

    algorithms = ("pbkdf2_sha256$", "pbkdf2_sha1$")

    def matches(self, password: str, encoded: str) -> bool:
        """Compute the hash again."""
        algorithm, iterations, salt, expected = encoded.split("$")
        name = algorithm.removeprefix("pbkdf2_")
        computed = hashlib.pbkdf2_hmac(name, password.encode(), salt.encode(), int(iterations))
        return hmac.compare_digest(base64.b64encode(computed).decode(), expected)


class Argon2(DjangoHasher):
    """Argon2 with the prefix that Django writes."""

    algorithms = ("argon2$",)

    def matches(self, password: str, encoded: str) -> bool:
        """Verify what follows the prefix."""
        return Argon2Hasher().verify(password, encoded.removeprefix("argon2"))


class BCryptSHA256(DjangoHasher):
    """Bcrypt of the SHA-256 of the password."""

    algorithms = ("bcrypt_sha256$",)

    def matches(self, password: str, encoded: str) -> bool:
        """Verify the SHA-256 of the password."""
        digest = hashlib.sha256(password.encode()).hexdigest()
        return BcryptHasher().verify(digest, encoded.removeprefix("bcrypt_sha256$"))


class BCrypt(DjangoHasher):
    """Bcrypt of the first 72 bytes of the password."""

    algorithms = ("bcrypt$",)

    def matches(self, password: str, encoded: str) -> bool:
        """Verify the part of the password that counts."""
        return BcryptHasher().verify(password.encode()[:72], encoded.removeprefix("bcrypt$"))


hashers = (Argon2Hasher(), BcryptHasher(), PBKDF2(), Argon2(), BCryptSHA256(), BCrypt(), Unusable())
password_helper = PasswordHelper(PasswordHash(hashers))
