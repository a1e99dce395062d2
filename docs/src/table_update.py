"""Bring the token table of an earlier checkout up to date."""

import sqlalchemy as sa
from alembic import op
from fastapi_users_knox.sqlalchemy import Data, Milliseconds, Scopes, UTCDateTime

revision = "5f0c7a1d9e32"
down_revision = None  # the id of your latest revision

TABLE = "knox_token"
HOUR = {
    "postgresql": "date_trunc('hour', expires_at, 'UTC')",
    "sqlite": "strftime('%Y-%m-%d %H:00:00.000000', expires_at)",
    "mysql": "TIMESTAMP(DATE(expires_at), MAKETIME(HOUR(expires_at), 0, 0))",
    "mariadb": "TIMESTAMP(DATE(expires_at), MAKETIME(HOUR(expires_at), 0, 0))",
}


def upgrade() -> None:
    """Add the columns and indexes, then drop the indexes that are not needed any more."""
    dialect = op.get_context().dialect.name
    unknown = sa.text("'1970-01-01 00:00:00.000000'")
    op.add_column(TABLE, sa.Column("expiry_hour", UTCDateTime(), server_default=unknown))
    rows = sa.table(TABLE, sa.column("expiry_hour"))
    op.execute(sa.update(rows).values(expiry_hour=sa.literal_column(HOUR[dialect])))
    op.create_index(f"ix_{TABLE}_user_id_expiry_hour", TABLE, ["user_id", "expiry_hour"])
    op.create_index(f"ix_{TABLE}_expiry_hour", TABLE, ["expiry_hour"])
    op.drop_index(f"ix_{TABLE}_user_id", TABLE)
    op.drop_index(f"ix_{TABLE}_expires_at", TABLE)
    op.add_column(TABLE, sa.Column("scopes", Scopes()))
    op.add_column(TABLE, sa.Column("data", Data()))
    op.add_column(TABLE, sa.Column("token_ttl", Milliseconds()))
    op.add_column(TABLE, sa.Column("browser_session", sa.Boolean(), server_default=sa.text("'0'"), nullable=False))
    if dialect == "postgresql":
        op.execute(f"ALTER TABLE {TABLE} SET (fillfactor = 85)")


def downgrade() -> None:
    """Restore the table as it was. Without their scopes, API tokens would be sessions, so they are deleted."""
    op.execute(f"DELETE FROM {TABLE} WHERE scopes IS NOT NULL")
    for column in ("browser_session", "token_ttl", "data", "scopes"):
        op.drop_column(TABLE, column)
    op.create_index(f"ix_{TABLE}_expires_at", TABLE, ["expires_at"])
    op.create_index(f"ix_{TABLE}_user_id", TABLE, ["user_id"])
    op.drop_index(f"ix_{TABLE}_expiry_hour", TABLE)
    op.drop_index(f"ix_{TABLE}_user_id_expiry_hour", TABLE)
    op.drop_column(TABLE, "expiry_hour")
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {TABLE} RESET (fillfactor)")
