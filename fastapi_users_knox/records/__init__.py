"""The values that the parts of the package pass to one another: records of tokens, and what stores take and return."""

from fastapi_users_knox.records.issued_token import IssuedToken
from fastapi_users_knox.records.store_values import Added, Credentials, Found, Proof, Roll, UserSource
from fastapi_users_knox.records.token_record import ID, UP, LimitPolicy, TokenRecord, UserLike

__all__ = [
    "ID",
    "UP",
    "Added",
    "Credentials",
    "Found",
    "IssuedToken",
    "LimitPolicy",
    "Proof",
    "Roll",
    "TokenRecord",
    "UserLike",
    "UserSource",
]
