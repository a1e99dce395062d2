"""Allow five tokens for each user; a sixth login revokes the token that was used longest ago."""

from fastapi_users_knox import KnoxSettings

settings = KnoxSettings(token_limit_per_user=5, limit_policy="evict_least_recently_used")
