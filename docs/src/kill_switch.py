"""Refuse the token of every login before this moment."""

from datetime import UTC, datetime

from fastapi_users_knox import KnoxSettings

settings = KnoxSettings(not_before=datetime(2026, 11, 22, 9, 30, tzinfo=UTC))
