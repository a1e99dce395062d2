"""The application's users: how they are loaded, and what is stored about them."""

from fastapi_users_knox.users.databases import StoredUser, Users, load_user, source_of, users_of

__all__ = ["StoredUser", "Users", "load_user", "source_of", "users_of"]
