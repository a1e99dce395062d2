"""How tokens behave."""

from datetime import timedelta

from fastapi_users_knox import KnoxSettings

settings = KnoxSettings(token_ttl=timedelta(hours=10))
