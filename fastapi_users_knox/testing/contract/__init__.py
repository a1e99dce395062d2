"""The contract of `TokenStore` as a pytest suite, with one file for each verb.

Each test checks one promise of the docstrings of `TokenStore`. The tests pass the time to the store, so none of them
sleeps. In the tests of concurrency, each caller has a store on a separate connection. The tests are asynchronous, and
anyio's pytest plugin runs them on asyncio.
"""

from fastapi_users_knox.testing.contract.adding import AddPromises
from fastapi_users_knox.testing.contract.base import (
    CALLERS,
    FEW_CALLERS,
    HOUR,
    NOW,
    SECOND,
    OpenStore,
    Store,
    add,
    at_once,
    find,
    new_digest,
    new_record,
    presented,
)
from fastapi_users_knox.testing.contract.every_verb import EveryVerbPromises
from fastapi_users_knox.testing.contract.getting import GetPromises
from fastapi_users_knox.testing.contract.limit import LimitPromises
from fastapi_users_knox.testing.contract.listing import ListPromises
from fastapi_users_knox.testing.contract.outage import OutagePromises
from fastapi_users_knox.testing.contract.purging import PurgePromises
from fastapi_users_knox.testing.contract.removing import RemoveAllPromises, RemovePromises
from fastapi_users_knox.testing.contract.renewing import RenewPromises
from fastapi_users_knox.testing.contract.rolling import RollPromises
from fastapi_users_knox.testing.contract.rotating import ProofPromises, RotatePromises

__all__ = [
    "CALLERS",
    "FEW_CALLERS",
    "HOUR",
    "NOW",
    "SECOND",
    "OpenStore",
    "Store",
    "TokenStoreContract",
    "add",
    "at_once",
    "find",
    "new_digest",
    "new_record",
    "presented",
]


class TokenStoreContract(
    AddPromises,
    LimitPromises,
    RollPromises,
    GetPromises,
    RenewPromises,
    RotatePromises,
    ProofPromises,
    RemovePromises,
    RemoveAllPromises,
    ListPromises,
    PurgePromises,
    EveryVerbPromises,
    OutagePromises,
):
    """The tests of every promise of `TokenStore`. To test a store, subclass this class and define three fixtures.

    - `open_store` returns an `OpenStore`: a callable that opens a store on a separate connection, which stays open
        until the context ends. All opened stores share their records. When a test begins, there are no records.
    - `user_ids` returns the ids of two users that exist. If the store sees the users, they are active and have the
        `hashed_password` "hash", unless you also define the fixture `credentials`.
    - `lost_store` returns a store that cannot be reached.
    """
