"""The throttle: which counters an attempt has, and what happens when the storage is unavailable."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import ConfigurationError
from limits.storage import storage_from_string

from fastapi_users_knox.addresses import network_of
from fastapi_users_knox.errors import KnownBy, ThrottleUnavailable, TooManyAttempts, describe
from fastapi_users_knox.throttling.budget import Budget, is_local
from fastapi_users_knox.throttling.counters import Counter, Limits, Name, key_of, normalized, parsed

__all__ = ["LoginThrottle"]

_LOG_INTERVAL = 60.0  # seconds
_CONNECTIONS = 32  # How many attempts of a process may use the storage at once; redis-py's pool has 100 connections.

_Question = Callable[[FixedWindowRateLimiter], Coroutine[Any, Any, TooManyAttempts | None]]

_logger = logging.getLogger("fastapi_users_knox")


class LoginThrottle:
    """Limits on attempts to log in, for an account from one address, for an address, and for an account.

    Create one object for the whole application, and pass it to each user manager: `UserManager(user_db, knox=strategy,
    throttle=throttle)`. A limit is a text of the library `limits`, such as "5/minute" or "100 per 2 hours". An empty
    tuple switches a counter off. All addresses of an IPv6 /64 network count as one address.

    A window of a limit begins with its first attempt, and later attempts do not extend it. So within any period of that
    length, at most twice as many attempts as the limit are admitted, and over many windows the limit itself. However
    many attempts arrive at once, and from however many processes, each window admits no more than the limit, because
    the storage increments and returns a counter in one step. With `memory://`, each process has its own counters.

    No key in the storage contains an e-mail address or an address of a client: it contains a SHA-256 of them.

    Args:
        storage: A URI such as `memory://`, `redis://localhost:6379/0` or `valkey://localhost:6379/0`, or a storage
            object of `limits.aio.storage`.
        per_account_and_address: The limits on attempts for one account from one address. A success resets them.
        per_address: The limits on attempts from one address, for any account.
        per_account: The limits on attempts for one account from all addresses from which the account has no live
            session. If they are low, a user cannot log in from a new device while somebody attacks the account.
            Attempts that present the token of a live session have the same limits, but each token has its own counter.
        fail_open: Whether attempts are admitted while the storage is unavailable. If false, they are answered by 503.
        clock: Returns seconds. It measures the interval between two lines in the log about an unavailable storage.

    Raises:
        ValueError: A limit or the URI is not valid.
        TypeError: The storage is not an asynchronous storage of `limits`.
    """

    def __init__(
        self,
        storage: str | Storage = "memory://",
        *,
        per_account_and_address: Iterable[str] = ("5/minute", "20/hour"),
        per_address: Iterable[str] = ("100/hour",),
        per_account: Iterable[str] = ("100/hour",),
        fail_open: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check the arguments. Nothing is sent to the storage."""
        self._limits: dict[Name, Limits] = {
            "account_and_address": parsed(per_account_and_address),
            "address": parsed(per_address),
            "account": parsed(per_account),
        }
        self._limiter = FixedWindowRateLimiter(_storage_of(storage))
        self._slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
        self._fail_open, self._clock, self._logs_again_at = fail_open, clock, float("-inf")

    @property
    def storage(self) -> Storage:
        """The storage, for example to close its connections."""
        return self._limiter.storage

    async def admit(
        self, email: str, address: str | None, *, purpose: str, known_by: Callable[[], Awaitable[KnownBy]]
    ) -> None:
        """Count an attempt, or refuse it.

        The narrow counters come first, and an attempt that one of them refuses is not counted by the next. Otherwise a
        single address could use up the limit of an account for all others. Before that, the counter of the address is
        read. Otherwise an address that is refused anyway could fill the storage with a key for each invented account.

        Args:
            email: The e-mail address of the account.
            address: The client's address; `None` outside of requests, where only the account's own counter applies.
            purpose: What is counted together: attempts of different purposes have different counters.
            known_by: A function that returns how the client is known as a client of the user. With "address", the
                account's own counter does not apply, because the counter for the account from one address is enough.
                With the id of a token's record, the attempt counts for this token instead, with the same limits. These
                limits are needed because somebody who has stolen the token may use many addresses. With `None`, the
                client is not known.

        Raises:
            TooManyAttempts: A limit is exceeded.
            ThrottleUnavailable: The storage is unavailable, and `fail_open` is false.
        """
        budget = Budget()
        counters = list(self._address_counters(email, address, purpose))
        for counter in counters:
            if counter.name == "address":
                await self._refuse_if(budget, counter.check)
        for counter in counters:
            await self._refuse_if(budget, counter.count)
        if self._limits["account"] and (known := await known_by()) != "address":
            await self._refuse_if(budget, self._account_counter(email, purpose, record_id=known).count)

    async def forget(self, email: str, address: str | None, *, purpose: str) -> None:
        """Reset the counters of an account from one address, after a success.

        The other counters stay. Otherwise somebody with an account of their own could reset the counter of their
        address, and the user of an attacked account would give the attackers new attempts with each login.
        """
        for counter in self._address_counters(email, address, purpose):
            if counter.name == "account_and_address":
                with suppress(ThrottleUnavailable):
                    async with self._slot():
                        with self._logging_errors():
                            await Budget().spend(counter.reset(self._limiter))

    async def _refuse_if(self, budget: Budget, ask: _Question) -> None:
        """Raise the error that a counter answers with, or that of an unavailable storage."""
        refusal: TooManyAttempts | ThrottleUnavailable | None = None if self._fail_open else ThrottleUnavailable()
        async with self._slot():
            with self._logging_errors():
                refusal = await budget.spend(ask(self._limiter))
        if refusal is not None:
            raise refusal

    def _address_counters(self, email: str, address: str | None, purpose: str) -> Iterator[Counter]:
        """Yield the two counters of the client's address, first the one for a single account."""
        account, network = normalized(email), network_of(address)
        if network is None:
            return
        counted: dict[Name, tuple[str, ...]] = {"account_and_address": (account, network), "address": (network,)}
        for name, parts in counted.items():
            if self._limits[name]:
                yield Counter(name=name, limits=self._limits[name], key=key_of(purpose, name, *parts))

    def _account_counter(self, email: str, purpose: str, *, record_id: UUID | None) -> Counter:
        """Return the counter of an account, or the counter of the attempts that present one token of the account."""
        account = normalized(email)
        parts = ("account", account) if record_id is None else ("account_and_token", account, str(record_id))
        return Counter(name="account", limits=self._limits["account"], key=key_of(purpose, *parts))

    @contextmanager
    def _logging_errors(self) -> Iterator[None]:
        """Log any error of the storage, instead of raising it; each client library has errors of its own.

        Raises:
            ThrottleUnavailable: This process has no connection or file left. That says nothing about the storage, and
                whoever sends many attempts at once must not get them admitted by it.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001
            if is_local(error):
                raise ThrottleUnavailable from None
            self._log(error)

    def _slot(self) -> asyncio.Semaphore:
        """Return the semaphore of the running event loop, because clients have few connections to the storage."""
        return self._slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_CONNECTIONS))

    def _log(self, error: Exception) -> None:
        """Log that the storage is unavailable, at most once a minute."""
        now = self._clock()
        if now < self._logs_again_at:
            return
        self._logs_again_at = now + _LOG_INTERVAL
        consequence = "Attempts to log in are not throttled" if self._fail_open else "Nobody can log in"
        _logger.error("%s, because the storage of the throttle is unavailable: %s", consequence, describe(error))


def _storage_of(storage: object) -> Storage:
    """Return the asynchronous storage of a URI, or the storage object itself."""
    if isinstance(storage, str):
        uri = f"async+{storage.removeprefix('async+')}"
        scheme = uri.partition(":")[0]
        # Otherwise `limits` needs another client than this package does.
        options = {"implementation": "redispy"} if scheme.startswith("async+redis") else {}
        try:
            storage = storage_from_string(uri, **options)
        except ConfigurationError as error:  # Its message contains the URI, which may contain a password.
            message = str(error).replace(uri, scheme)
            raise ValueError(f"storage is not a URI of the library `limits`: {message}") from None
    if not isinstance(storage, Storage):
        raise TypeError(f"storage must be a URI or a storage of limits.aio.storage, not {type(storage).__name__}")
    return storage
