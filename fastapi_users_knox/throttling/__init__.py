"""Limits on attempts to log in, which the library `limits` counts in memory, in Redis or in Valkey."""

from fastapi_users_knox.throttling.throttle import LoginThrottle

__all__ = ["LoginThrottle"]
