"""Where the tokens are: in an application, in a database or in Redis, as the options of the program say."""

import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi_users_knox.cli.operations import Operations, operations_of
from fastapi_users_knox.cli.report import Problem
from fastapi_users_knox.errors import StoreUnavailable, describe
from fastapi_users_knox.records.statistics import Liveness
from fastapi_users_knox.settings import KnoxSettings
from fastapi_users_knox.store import TokenStore
from fastapi_users_knox.strategy import KnoxStrategy
from fastapi_users_knox.verbs.context import Context

__all__ = ["IdType", "Options", "Target", "open_target"]

_SOURCES = (
    "--app (FASTAPI_USERS_KNOX_APP), --database (FASTAPI_USERS_KNOX_DATABASE) or --redis (FASTAPI_USERS_KNOX_REDIS)"
)

Strategy = KnoxStrategy[Any, Any]


class IdType(StrEnum):
    """The type of the users' ids in Redis."""

    UUID = "uuid"
    INT = "int"
    STR = "str"


_PARSERS = {IdType.UUID: UUID, IdType.INT: int, IdType.STR: str}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the program, which come before the command. The program's help describes them."""

    app: str | None
    database: str | None
    table: str | None
    redis: str | None
    redis_cluster: bool
    key_prefix: str
    users: str
    id_type: IdType
    audience: str | None


@dataclass(frozen=True, kw_only=True)
class Target:
    """The tokens that a command works on.

    Attributes:
        strategy: The application's strategy, or one with the default settings.
        operations: What the store can do besides the verbs of a store.
        has_settings: Whether the settings are those of the application.
    """

    strategy: Strategy
    operations: Operations | None
    has_settings: bool

    @property
    def context(self) -> Context[Any, Any]:
        """The store, the settings, the user database and the clock of the strategy."""
        return self.strategy._context  # noqa: SLF001 (the program is a part of this package)

    def liveness(self) -> Liveness:
        """Return which tokens are live now."""
        now, settings = self.context.now(), self.context.settings
        return Liveness(now=now, audience=settings.audience, created_since=settings.created_since(now))

    def needed_operations(self) -> Operations:
        """Return what the store can do besides its verbs.

        Raises:
            Problem: It is a store of another package.
        """
        if self.operations is None:
            raise Problem(f"this command does not support {type(self.context.store).__name__}")
        return self.operations


@asynccontextmanager
async def open_target(options: Options) -> AsyncIterator[Target]:
    """Open the application, the database or Redis, and close it at the end of the block.

    Raises:
        Problem: The options do not name exactly one of them, or it cannot be opened.
    """
    async with AsyncExitStack() as stack:
        try:
            strategy = await stack.enter_async_context(_chosen(options))
        except (Problem, StoreUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 (the application's own function may raise anything)
            raise Problem(f"the tokens cannot be opened: {describe(error)}") from None
        yield _target_of(strategy, has_settings=options.app is not None)


def _chosen(options: Options) -> AbstractAsyncContextManager[object]:
    """Return the context manager of what the options name."""
    given = [name for name in ("app", "database", "redis") if getattr(options, name)]
    if len(given) != 1:
        found = f"not {' and '.join(f'--{name}' for name in given)}" if given else "none is given"
        raise Problem(f"exactly one of {_SOURCES} must say where the tokens are; {found}")
    if options.app:
        if options.audience is not None:
            raise Problem("--audience cannot be combined with --app: the application's strategy has its own audience")
        return _open_app(options.app)
    return _open_database(options) if options.database else _open_redis(options)


def _open_app(path: str) -> AbstractAsyncContextManager[object]:
    """Call the application's function."""
    opened = _imported("--app", path)()
    if isinstance(opened, AbstractAsyncContextManager):
        return opened
    raise Problem(f"--app {path} must be a function with @asynccontextmanager that yields a KnoxStrategy")


@asynccontextmanager
async def _open_database(options: Options) -> AsyncIterator[Strategy]:
    if not options.table:
        raise Problem("--database needs --table module:Class, the mapped class of the tokens")
    from fastapi_users_knox.sqlalchemy.opening import open_store  # noqa: PLC0415 (SQLAlchemy is an extra)

    async with open_store(str(options.database), _imported("--table", options.table)) as store:
        yield _default_strategy(store, options)


@asynccontextmanager
async def _open_redis(options: Options) -> AsyncIterator[Strategy]:
    from fastapi_users_knox.redis.opening import open_store  # noqa: PLC0415 (Redis is an extra)

    async with open_store(
        str(options.redis),
        is_cluster=options.redis_cluster,
        parse_id=_PARSERS[options.id_type],
        users=options.users,
        key_prefix=options.key_prefix,
    ) as store:
        yield _default_strategy(store, options)


def _default_strategy(store: TokenStore[Any, Any], options: Options) -> Strategy:
    """Return a strategy with the default settings, which issues no tokens."""
    settings = KnoxSettings(audience=options.audience or "")
    return KnoxStrategy(store, settings, request=None, user_db=None)


def _target_of(strategy: object, *, has_settings: bool) -> Target:
    """Check what was opened."""
    if not isinstance(strategy, KnoxStrategy):
        raise Problem(f"--app must yield a KnoxStrategy, not {type(strategy).__name__}")
    return Target(strategy=strategy, operations=operations_of(strategy.store), has_settings=has_settings)


def _imported(option: str, path: str) -> Any:  # noqa: ANN401 (the application's own object)
    """Import an object of the application by its path, such as `app.tokens:open_strategy`, from the current folder."""
    module, _, name = path.partition(":")
    if not module or not name:
        raise Problem(f"{option} must be module:name, not {path}")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001 (as above)
        raise Problem(f"{option} {path} cannot be imported: {describe(error)}") from None
