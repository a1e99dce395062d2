"""Tenants on PostgreSQL, by row-level security and by a schema each, and the ways to say whose a session is."""

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
    """The metadata of an application with tenants."""


class TenantUser(SQLAlchemyBaseUserTableUUID, TenantBase):
    """A user of one tenant."""

    __tablename__ = "user"
    tenant: Mapped[str] = mapped_column(default=TENANT)


class TenantToken(SQLAlchemyBaseKnoxTokenTableUUID, TenantBase):
    """A token record of that application."""


class TenantUserManager(UUIDIDMixin, BaseUserManager[TenantUser, uuid.UUID]):
    """A plain user manager."""


def tenant_user_manager(session: AsyncSession) -> TenantUserManager:
    """Make the user manager of a session."""
    return TenantUserManager(SQLAlchemyUserDatabase(session, TenantUser), PASSWORDS)


def tenant_store(session: AsyncSession) -> SQLAlchemyTokenStore[TenantUser, uuid.UUID]:
    """Make the token store of a session."""
    return SQLAlchemyTokenStore(session, TenantToken)


SECURED = tuple((Path(__file__).parents[1] / "docs/src/tenants.sql").read_text().strip().removesuffix(";").split(";"))


async def create_empty_tables(superuser: AsyncEngine, *, role: str, schema: str, then: Sequence[str] = ()) -> None:
    """Create the tables in a schema of their own, with the role without privileges that owns them, or empty them."""
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
    """Set whose the transaction is, by what the session has been given."""
    connection.execute(text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": session.info["tenant"]})


def set_search_path(_session: Session, _transaction: object, connection: Connection) -> None:
    """Set in which schema the transaction finds its tables."""
    connection.exec_driver_sql(f"SET LOCAL search_path = {TENANT}")


def set_tenant_of_connection(connection: Connection) -> None:
    """Set whose the transaction of a connection is."""
    connection.execute(text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": TENANT})


def set_timeout(_session: Session, _transaction: object, connection: Connection) -> None:
    """Set what has nothing to do with tenants."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 10000")


Open = Callable[[AsyncEngine], AbstractAsyncContextManager[AsyncSession]]


class TenantSession(Session):
    """A session class of the application's own."""


event.listen(TenantSession, "after_begin", set_tenant)


@asynccontextmanager
async def by_session_class(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Listen at a subclass of `Session`."""
    sessions = async_sessionmaker(engine, sync_session_class=TenantSession, info={"tenant": TENANT}, **KEEPING)
    async with sessions() as session:
        yield session


@asynccontextmanager
async def by_sessionmaker(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Listen at a `sessionmaker`, as SQLAlchemy documents it."""
    synchronous = sessionmaker()
    event.listen(synchronous, "after_begin", set_tenant)
    sessions: Any = async_sessionmaker(engine, sync_session_class=synchronous, info={"tenant": TENANT}, **KEEPING)
    async with sessions() as session:
        yield session


@asynccontextmanager
async def by_one_session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Listen at the very session."""
    async with AsyncSession(engine, info={"tenant": TENANT}, **KEEPING) as session:
        event.listen(session.sync_session, "after_begin", set_tenant)
        yield session


@asynccontextmanager
async def by_statement(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the tenant in the transaction that the request is to run in, once."""
    async with AsyncSession(engine, **KEEPING) as session:
        await session.execute(text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": TENANT})
        yield session


@asynccontextmanager
async def by_statement_beside_a_listener(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the tenant once, in a session whose `after_begin` listener sets something else."""
    async with AsyncSession(engine, **KEEPING) as session:
        event.listen(session.sync_session, "after_begin", set_timeout)
        await session.execute(text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": TENANT})
        yield session


@asynccontextmanager
async def by_begin_of_engine(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the tenant at each begin of the engine's, which no session knows of."""
    event.listen(engine.sync_engine, "begin", set_tenant_of_connection)
    async with AsyncSession(engine, **KEEPING) as session:
        yield session
    event.remove(engine.sync_engine, "begin", set_tenant_of_connection)


@asynccontextmanager
async def by_search_path_once(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the path at which tables are found in the transaction that the request is to run in, once."""
    async with AsyncSession(engine, **KEEPING) as session:
        await session.execute(text(f"SET LOCAL search_path = {TENANT}"))
        yield session


@asynccontextmanager
async def by_engine(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Translate schemas by the options of an engine."""
    async with AsyncSession(engine.execution_options(schema_translate_map={None: TENANT}), **KEEPING) as session:
        yield session


@asynccontextmanager
async def by_routing(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Choose an engine by a session class of the application's own."""
    translated = engine.sync_engine.execution_options(schema_translate_map={None: TENANT})

    class RoutingSession(Session):
        """A session that is always the tenant's."""

        def get_bind(self, *_arguments: object, **_options: object) -> Engine:
            """Choose."""
            return translated

    async with AsyncSession(sync_session_class=RoutingSession, **KEEPING) as session:
        yield session


@asynccontextmanager
async def by_connection(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Translate schemas by the options of the session's connection, for the transaction the request is to run in."""
    async with AsyncSession(engine, **KEEPING) as session:
        await session.connection(execution_options={"schema_translate_map": {None: TENANT}})
        yield session


@asynccontextmanager
async def by_search_path(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Set the path at which tables are found, at the begin of each transaction."""
    async with AsyncSession(engine, **KEEPING) as session:
        event.listen(session.sync_session, "after_begin", set_search_path)
        yield session


TRANSLATED: Mapping[str, Any] = {"schema_translate_map": {None: TENANT}}


def translate(state: ORMExecuteState) -> None:
    """Translate schemas for a statement."""
    state.update_execution_options(**TRANSLATED)


class TranslatingSession(AsyncSession):
    """An asynchronous session that translates schemas for each statement."""

    async def execute(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        """Translate, and execute."""
        return await super().execute(statement, *arguments, execution_options=TRANSLATED, **options)

    async def scalars(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        """Translate, and execute."""
        return (await self.execute(statement, *arguments, **options)).scalars()


class TranslatingSyncSession(Session):
    """A session that translates schemas for each statement."""

    def execute(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        """Translate, and execute."""
        return super().execute(statement, *arguments, **{**options, "execution_options": TRANSLATED})

    def scalars(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        """Translate, and execute."""
        return self.execute(statement, *arguments, **options).scalars()


@asynccontextmanager
async def by_execute_listener(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Translate schemas in a `do_orm_execute` event, as SQLAlchemy documents it."""
    async with AsyncSession(engine, **KEEPING) as session:
        event.listen(session.sync_session, "do_orm_execute", translate)
        yield session


@asynccontextmanager
async def by_execute(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Translate schemas by an `execute` of the application's own."""
    async with TranslatingSession(engine, **KEEPING) as session:
        yield session


@asynccontextmanager
async def by_execute_of_sync_session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Translate schemas by an `execute` of the application's own that is not asynchronous."""
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
LASTING: Mapping[str, Open] = {**BY_ROW, **BY_SCHEMA}  # What holds in each transaction, or beside the one of it.
ALL: Mapping[str, Open] = {**LASTING, by_statement.__name__: by_statement}
UNSEEN: Mapping[str, Open] = {  # What no session knows of, or knows of in its first transaction only.
    way.__name__: way for way in (by_statement_beside_a_listener, by_begin_of_engine, by_search_path_once)
}
IN_SCHEMA = {*BY_SCHEMA, by_search_path_once.__name__}
SHARING = "(tenant = 'shared' OR tenant = current_setting('app.tenant', true))"


@dataclass(frozen=True, kw_only=True)
class Tenancy:
    """An application's database with one user, as its requests get at it.

    Attributes:
        engine: Connects as a role that sees nothing unless a tenant is set.
        superuser: Sees everything.
        schema: Where the tables are.
        open_session: Opens a session of the tenant's.
        user: The user.
    """

    engine: AsyncEngine
    superuser: AsyncEngine
    schema: str
    open_session: Open
    user: TenantUser

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a session of the tenant's."""
        return self.open_session(self.engine)

    async def stored(self) -> Sequence[Row[Any]]:
        """Return all token records there are."""
        async with self.superuser.connect() as connection:
            translated = await connection.execution_options(schema_translate_map={None: self.schema})
            return (await translated.execute(select(TenantToken.__table__))).all()

    async def share(self) -> None:
        """Store a user whom every tenant sees, by a policy that is made for it."""
        async with self.superuser.begin() as connection:
            await connection.exec_driver_sql(f'ALTER POLICY own_tenant ON {self.schema}."user" USING {SHARING}')
            translated = await connection.execution_options(schema_translate_map={None: self.schema})
            shared = {"id": uuid.uuid4(), "email": "all@example.org", "hashed_password": HASHED, "tenant": "shared"}
            fields = {"is_active": True, "is_superuser": False, "is_verified": False}
            await translated.execute(insert(TenantUser).values(**shared, **fields))


@asynccontextmanager
async def tenancy(url: str, way: str, **options: Any) -> AsyncIterator[Tenancy]:
    """Create the tables, secured by row or by schema, and a user in them.

    Args:
        url: PostgreSQL's, for its superuser.
        way: The name of one of `ALL` or `UNSEEN`.
        options: Of the engine.
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
