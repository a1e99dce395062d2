"""Log users out after half an hour without use, and in any case 12 hours after the login."""

from datetime import timedelta

from fastapi_users_knox import KnoxSettings

settings = KnoxSettings(
    token_ttl=timedelta(minutes=30),
    auto_refresh=True,
    auto_refresh_max_ttl=timedelta(hours=12),
)
