"""The application's users: loading a user, and reading the stored state of a user."""

from fastapi_users_knox.users.databases import StoredUser, Users, load_user, source_of, users_of

__all__ = ["StoredUser", "Users", "load_user", "source_of", "users_of"]
