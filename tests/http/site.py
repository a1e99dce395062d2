"""Names of `tests.site` under their earlier address, until all tests that use them are moved."""

from tests.site import HASHED, PASSWORDS, UserRead, UserUpdate, bearing, client_of, credentials

__all__ = ["HASHED", "PASSWORDS", "UserRead", "UserUpdate", "bearing", "client_of", "credentials"]
