"""Checks of a database: the table, its indexes, its foreign key, and the clock of the server."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Inspector, Select, exists, func, inspect, select, text
from sqlalchemy.engine.interfaces import ReflectedIndex
from sqlalchemy.orm import Mapper

from fastapi_users_knox.records.finding import Finding
from fastapi_users_knox.sqlalchemy.statements import Statements

__all__ = ["check_enforcement", "check_table", "count_orphans", "orphans_finding", "server_time"]

_MIGRATE = "apply the migration of the table, which the tutorial shows, or that Alembic generates from the class"
_WANTED = {
    "primary key": (("id",), "removals find a record by it"),
    "unique key": (("digest",), "each request finds its token by it"),
    "index of users": (("user_id", "expiry_hour"), "logins, lists and the deletion of a user need it"),
    "index of expiry": (("expiry_hour",), "purges need it"),
}
_TIMES = {
    "postgresql": "SELECT clock_timestamp()",
    "mysql": "SELECT UTC_TIMESTAMP(6)",
    "mariadb": "SELECT UTC_TIMESTAMP(6)",
}


def check_table(connection: Connection, sql: Statements) -> Sequence[Finding]:
    """Compare the table in the database with the mapped class."""
    inspector, name = inspect(connection), sql.table.name
    translated = connection.get_execution_options().get("schema_translate_map", {})
    schema = translated.get(sql.table.schema, sql.table.schema)
    if not inspector.has_table(name, schema):
        return [Finding(check="table", status="problem", detail=f"there is no table {name}", cure=_MIGRATE)]
    return list(_findings(inspector, sql, schema))


def _findings(inspector: Inspector, sql: Statements, schema: str | None) -> Iterator[Finding]:
    """Check the parts of the table."""
    name = sql.table.name
    stored = {column["name"] for column in inspector.get_columns(name, schema)}
    missing = sorted({column.name for column in sql.table.columns} - stored)
    yield Finding.of(
        "columns",
        f"the table {name} has no {', '.join(missing)}" if missing else None,
        cure=_MIGRATE,
        otherwise=f"the table {name} has all columns",
    )
    keys = _Keys(
        primary=inspector.get_pk_constraint(name, schema)["constrained_columns"],
        constraints=[constraint["column_names"] for constraint in inspector.get_unique_constraints(name, schema)],
        indexes=inspector.get_indexes(name, schema),
    )
    for check, (names, reason) in _WANTED.items():
        columns = [sql.columns[each].name for each in names]
        listed = ", ".join(columns)
        problem = None if keys.has(check, columns) else f"the table {name} has no {check} ({listed}): {reason}"
        yield Finding.of(check, problem, cure=_MIGRATE, otherwise=f"there is one ({listed})")
    yield _check_foreign_key(inspector, sql, schema)


@dataclass(frozen=True, kw_only=True)
class _Keys:
    """The keys of the table in the database, by the names of their columns."""

    primary: Sequence[str]
    constraints: Sequence[Sequence[str]]
    indexes: Sequence[ReflectedIndex]

    def has(self, check: str, columns: Sequence[str]) -> bool:
        """Return whether there is a key of this kind that begins with these columns."""
        if check == "primary key":
            return self.primary == columns
        if check == "unique key":
            unique = [index["column_names"] for index in self.indexes if index["unique"]]
            return columns in unique or columns in self.constraints
        return any(index["column_names"][: len(columns)] == columns for index in self.indexes)


def _check_foreign_key(inspector: Inspector, sql: Statements, schema: str | None) -> Finding:
    """Check that the database deletes the tokens of a deleted user."""
    key = sql.columns["user_id"].name
    if not sql.columns["user_id"].foreign_keys:
        return Finding(check="foreign key", status="unknown", detail=f"{key} of the mapped class is no foreign key")
    found = [
        constraint["options"].get("ondelete", "")
        for constraint in inspector.get_foreign_keys(sql.table.name, schema)
        if constraint["constrained_columns"] == [key]
    ]
    problem = f"{key} is no foreign key in the database" if not found else None
    if found and "CASCADE" not in [action.upper() for action in found]:
        problem = f"the foreign key {key} has no ON DELETE CASCADE"
    return Finding.of(
        "foreign key",
        problem,
        cure=f"{_MIGRATE}, so that the tokens of a deleted user are deleted too",
        otherwise=f"{key} is a foreign key with ON DELETE CASCADE",
    )


def check_enforcement(connection: Connection) -> Sequence[Finding]:
    """Check that SQLite enforces foreign keys on the application's connections."""
    if connection.dialect.name != "sqlite":
        return []
    is_enforced = connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one()
    return [
        Finding.of(
            "foreign keys enforced",
            None if is_enforced else "SQLite does not enforce foreign keys",
            cure="switch them on in each new connection, as the tutorial shows: PRAGMA foreign_keys = ON",
            otherwise="SQLite enforces foreign keys",
        )
    ]


def count_orphans(sql: Statements, users: Mapper[Any], of_id: Any) -> Select[Any]:  # noqa: ANN401 (a column or an expression)
    """Count the tokens whose user does not exist."""
    has_user = exists().select_from(users.class_).where(of_id == sql.columns["user_id"])
    return select(func.count()).select_from(sql.table).where(~has_user)


def orphans_finding(orphans: int) -> Finding:
    """Return whether the foreign key was kept."""
    return Finding.of(
        "foreign key kept",
        f"{orphans} tokens belong to users who do not exist" if orphans else None,
        cure="delete these rows, and enforce the foreign key: a new user may get the id of a deleted one",
        otherwise="each token has a user",
    )


def server_time(connection: Connection) -> datetime | None:
    """Return the time of the server; `None` for SQLite, which has no server."""
    query = _TIMES.get(connection.dialect.name)
    if query is None:
        return None
    now: datetime = connection.execute(text(query)).scalar_one()
    return now if now.tzinfo is not None else now.replace(tzinfo=UTC)
