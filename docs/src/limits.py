"""Five tokens a user; a sixth login ends the one that was used longest ago."""

from fastapi_users_knox import KnoxSettings

settings = KnoxSettings(token_limit_per_user=5, limit_policy="evict_least_recently_used")
