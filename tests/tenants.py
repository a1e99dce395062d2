"""Tenants on PostgreSQL, by row-level security or one schema for each, and ways to set the tenant of a session."""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from sqlalchemy import Connection, Engine, Row, event, insert, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, ORMExecuteState, Session, mapped_column, sessionmaker

from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID, SQLAlchemyTokenStore
from tests.site import HASHED, PASSWORDS

TENANT = "acme"
KEEPING: Mapping[str, Any] = {"expire_on_commit": False}


class TenantBase(DeclarativeBase):
    """The declarative base of an application with tenants."""


class TenantUser(SQLAlchemyBaseUserTableUUID, TenantBase):
    """A user of one tenant."""

    __tablename__ = "user"
    tenant: Mapped[str] = mapped_column(default=TENANT)


class TenantToken(SQLAlchemyBaseKnoxTokenTableUUID, TenantBase):
    """A token record of an application with tenants."""


class TenantUserManager(UUIDIDMixin, BaseUserManager[TenantUser, uuid.UUID]):
    """A plain user manager."""


def tenant_user_manager(session: AsyncSession) -> TenantUserManager:
    """Return a user manager on a session."""
    return TenantUserManager(SQLAlchemyUserDatabase(session, TenantUser), PASSWORDS)


def tenant_store(session: AsyncSession) -> SQLAlchemyTokenStore[TenantUser, uuid.UUID]:
    """Return a token store on a session."""
    return SQLAlchemyTokenStore(session, TenantToken)


SECURED = tuple((Path(__file__).parents[1] / "docs/src/tenants.sql").read_text().strip().removesuffix(";").split(";"))


async def create_empty_tables(superuser: AsyncEngine, *, role: str, schema: str, then: Sequence[str] = ()) -> None:
    """Empty the tables, or create them in their own schema together with the unprivileged role that owns them."""
    async with superuser.begin() as connection:
        if await connection.scalar(text("SELECT to_regclass(:table) IS NULL"), {"table": f"{schema}.knox_token"}):
            await _create_tables(connection, role, schema, then)
            return
        await connection.exec_driver_sql(f"SET LOCAL search_path = {schema}")
        for table in reversed(TenantBase.metadata.sorted_tables):
            await connection.execute(table.delete())
        for statement in then:
            if "CREATE POLICY" in statement:
                await connection.exec_driver_sql(statement.replace("CREATE", "ALTER"))


async def _create_tables(connection: AsyncConnection, role: str, schema: str, then: Sequence[str]) -> None:
    await connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
    await connection.exec_driver_sql(f"CREATE SCHEMA {schema} AUTHORIZATION {role}")
    await connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
    await connection.exec_driver_sql(f"SET LOCAL search_path = {schema}")
    await connection.run_sync(TenantBase.metadata.create_all)
    for statement in then:
        await connection.exec_driver_sql(statement)


def set_tenant(session: Session, _transaction: object, connection: Connection) -> None:
    """Set the tenant of the transaction to the tenant in the session's `info`."""
    connection.execute(text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": session.info["tenant"]})


def set_search_path(_session: Session, _transaction: object, connection: Connection) -> None:
    """Set the schema in which the transaction finds its tables."""
    connection.exec_driver_sql(f"SET LOCAL search_path = {TENANT}")


def set_tenant_of_connection(connection: Connection) -> None:
    """Set the tenant of the connection's transaction."""
    connection.execute(text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": TENANT})


def set_timeout(_session: Session, _transaction: object, connection: Connection) -> None:
    """Set an option of the transaction that does not concern tenants."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 10000")


Open = Callable[[AsyncEngine], AbstractAsyncContextManager[AsyncSession]]


class TenantSession(Session):
    """An application's own session class, with a listener that sets the tenant."""


event.listen(TenantSession, "after_begin", set_tenant)


@asynccontextmanager
async def by_session_class(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the tenant by a listener on a subclass of `Session`."""
    sessions = async_sessionmaker(engine, sync_session_class=TenantSession, info={"tenant": TENANT}, **KEEPING)
    async with sessions() as session:
        yield session


@asynccontextmanager
async def by_sessionmaker(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the tenant by a listener on a `sessionmaker`, as SQLAlchemy documents it."""
    synchronous = sessionmaker()
    event.listen(synchronous, "after_begin", set_tenant)
    sessions: Any = async_sessionmaker(engine, sync_session_class=synchronous, info={"tenant": TENANT}, **KEEPING)
    async with sessions() as session:
        yield session


@asynccontextmanager
async def by_one_session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the tenant by a listener on the session itself."""
    async with AsyncSession(engine, info={"tenant": TENANT}, **KEEPING) as session:
        event.listen(session.sync_session, "after_begin", set_tenant)
        yield session


@asynccontextmanager
async def by_statement(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the tenant once, by a statement in the transaction that the request begins with."""
    async with AsyncSession(engine, **KEEPING) as session:
        await session.execute(text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": TENANT})
        yield session


@asynccontextmanager
async def by_statement_beside_a_listener(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the tenant once, by a statement, in a session that has an `after_begin` listener for another option."""
    async with AsyncSession(engine, **KEEPING) as session:
        event.listen(session.sync_session, "after_begin", set_timeout)
        await session.execute(text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": TENANT})
        yield session


@asynccontextmanager
async def by_begin_of_engine(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the tenant by a listener on the engine's `begin` event. Sessions do not know about such a listener."""
    event.listen(engine.sync_engine, "begin", set_tenant_of_connection)
    async with AsyncSession(engine, **KEEPING) as session:
        yield session
    event.remove(engine.sync_engine, "begin", set_tenant_of_connection)


@asynccontextmanager
async def by_search_path_once(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the search path once, by a statement in the transaction that the request begins with."""
    async with AsyncSession(engine, **KEEPING) as session:
        await session.execute(text(f"SET LOCAL search_path = {TENANT}"))
        yield session


@asynccontextmanager
async def by_engine(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Translate schemas by the execution options of the engine."""
    async with AsyncSession(engine.execution_options(schema_translate_map={None: TENANT}), **KEEPING) as session:
        yield session


@asynccontextmanager
async def by_routing(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Translate schemas by a session class whose `get_bind` returns an engine with that option."""
    translated = engine.sync_engine.execution_options(schema_translate_map={None: TENANT})

    class RoutingSession(Session):
        """A session that always uses the tenant's engine."""

        def get_bind(self, *_arguments: object, **_options: object) -> Engine:
            """Return the tenant's engine."""
            return translated

    async with AsyncSession(sync_session_class=RoutingSession, **KEEPING) as session:
        yield session


@asynccontextmanager
async def by_connection(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Translate schemas by the execution options of the connection, in the transaction that the request begins with."""
    async with AsyncSession(engine, **KEEPING) as session:
        await session.connection(execution_options={"schema_translate_map": {None: TENANT}})
        yield session


@asynccontextmanager
async def by_search_path(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the search path at the start of each transaction, by a listener on the session."""
    async with AsyncSession(engine, **KEEPING) as session:
        event.listen(session.sync_session, "after_begin", set_search_path)
        yield session


TRANSLATED: Mapping[str, Any] = {"schema_translate_map": {None: TENANT}}


def translate(state: ORMExecuteState) -> None:
    """Add the translation of schemas to the statement's execution options."""
    state.update_execution_options(**TRANSLATED)


class TranslatingSession(AsyncSession):
    """An asynchronous session whose methods translate schemas for each statement."""

    async def execute(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        """Execute the statement with translated schemas."""
        return await super().execute(statement, *arguments, execution_options=TRANSLATED, **options)

    async def scalars(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        """Execute the statement with translated schemas."""
        return (await self.execute(statement, *arguments, **options)).scalars()


class TranslatingSyncSession(Session):
    """A session whose methods translate schemas for each statement."""

    def execute(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        """Execute the statement with translated schemas."""
        return super().execute(statement, *arguments, **{**options, "execution_options": TRANSLATED})

    def scalars(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        """Execute the statement with translated schemas."""
        return self.execute(statement, *arguments, **options).scalars()


@asynccontextmanager
async def by_execute_listener(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Translate schemas in a `do_orm_execute` event, as SQLAlchemy documents it."""
    async with AsyncSession(engine, **KEEPING) as session:
        event.listen(session.sync_session, "do_orm_execute", translate)
        yield session


@asynccontextmanager
async def by_execute(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Translate schemas by overriding `execute` of the asynchronous session."""
    async with TranslatingSession(engine, **KEEPING) as session:
        yield session


@asynccontextmanager
async def by_execute_of_sync_session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Translate schemas by overriding `execute` of the synchronous session."""
    async with AsyncSession(engine, sync_session_class=TranslatingSyncSession, **KEEPING) as session:
        yield session


BY_ROW: Mapping[str, Open] = {way.__name__: way for way in (by_session_class, by_sessionmaker, by_one_session)}
BY_EXECUTE: Mapping[str, Open] = {
    way.__name__: way for way in (by_execute_listener, by_execute, by_execute_of_sync_session)
}
BY_SCHEMA: Mapping[str, Open] = {
    **{way.__name__: way for way in (by_engine, by_routing, by_connection, by_search_path)},
    **BY_EXECUTE,
}
# These settings hold in each transaction, or outside of the current one.
LASTING: Mapping[str, Open] = {**BY_ROW, **BY_SCHEMA}
ALL: Mapping[str, Open] = {**LASTING, by_statement.__name__: by_statement}
UNSEEN: Mapping[str, Open] = {  # A session knows nothing about these settings, or only during its first transaction.
    way.__name__: way for way in (by_statement_beside_a_listener, by_begin_of_engine, by_search_path_once)
}
IN_SCHEMA = {*BY_SCHEMA, by_search_path_once.__name__}
SHARING = "(tenant = 'shared' OR tenant = current_setting('app.tenant', true))"


@dataclass(frozen=True, kw_only=True)
class Tenancy:
    """The database of an application with tenants, and one user in it.

    Attributes:
        engine: An engine that connects as a role that sees no rows unless a tenant is set.
        superuser: An engine that connects as the superuser, who sees all rows.
        schema: The schema of the tables.
        open_session: A function that opens a session for the tenant.
        user: The user.
    """

    engine: AsyncEngine
    superuser: AsyncEngine
    schema: str
    open_session: Open
    user: TenantUser

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a session for the tenant."""
        return self.open_session(self.engine)

    async def stored(self) -> Sequence[Row[Any]]:
        """Return the token records of all tenants."""
        async with self.superuser.connect() as connection:
            translated = await connection.execution_options(schema_translate_map={None: self.schema})
            return (await translated.execute(select(TenantToken.__table__))).all()

    async def share(self) -> None:
        """Store a user whom every tenant can see, and change the policy accordingly."""
        async with self.superuser.begin() as connection:
            await connection.exec_driver_sql(f'ALTER POLICY own_tenant ON {self.schema}."user" USING {SHARING}')
            translated = await connection.execution_options(schema_translate_map={None: self.schema})
            shared = {"id": uuid.uuid4(), "email": "all@example.org", "hashed_password": HASHED, "tenant": "shared"}
            fields = {"is_active": True, "is_superuser": False, "is_verified": False}
            await translated.execute(insert(TenantUser).values(**shared, **fields))


@asynccontextmanager
async def tenancy(url: str, way: str, **options: Any) -> AsyncIterator[Tenancy]:
    """Create the tables, with row-level security or in a schema of the tenant, and store a user.

    Args:
        url: The URL of PostgreSQL, for its superuser.
        way: How the tenant of a session is set: a key of `ALL` or `UNSEEN`.
        options: Options of the engine.
    """
    role, schema, then = ("by_schema", TENANT, ()) if way in IN_SCHEMA else ("by_row", "by_row", SECURED)
    superuser = create_async_engine(url)
    await create_empty_tables(superuser, role=role, schema=schema, then=then)
    user = TenantUser(email="ada@example.org", hashed_password=HASHED)
    translated = superuser.execution_options(schema_translate_map={None: schema})
    async with AsyncSession(translated, expire_on_commit=False) as session:
        session.add(user)
        await session.commit()
    engine = create_async_engine(make_url(url).set(username=role), **options)
    yield Tenancy(engine=engine, superuser=superuser, schema=schema, open_session={**ALL, **UNSEEN}[way], user=user)
    await engine.dispose()
    await superuser.dispose()
