"""Log users out who have been idle for half an hour, and everybody 12 hours after login."""

from datetime import timedelta

from fastapi_users_knox import KnoxSettings

settings = KnoxSettings(
    token_ttl=timedelta(minutes=30),
    auto_refresh=True,
    auto_refresh_max_ttl=timedelta(hours=12),
)
