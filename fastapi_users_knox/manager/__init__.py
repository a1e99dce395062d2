"""The user manager that revokes tokens when an account changes or is deleted."""

from fastapi_users_knox.manager.mixin import KnoxUserManagerMixin

__all__ = ["KnoxUserManagerMixin"]
