"""The admin pages: the sessions and the users."""

from fastapi import FastAPI
from fastapi_users.authentication import AuthenticationBackend
from sqladmin import Admin

from example_app.db import KnoxToken, User, engine
from example_app.tokens import redis
from example_app.users import api_backend, auth_backend, fastapi_users, get_knox_strategy
from fastapi_users_knox import KnoxCookieTransport
from fastapi_users_knox.admin import KnoxAdminAuth, KnoxTokenView, KnoxUserView

admin_backend = AuthenticationBackend(
    name="admin", transport=KnoxCookieTransport("__Host-admin"), get_strategy=get_knox_strategy
)


class SessionAdmin(KnoxTokenView, model=KnoxToken):
    """The sessions."""

    name = "Session"


class UserAdmin(KnoxUserView, model=User):
    """The users."""


def add_admin_pages(app: FastAPI) -> None:
    """Add the pages at /admin. If the tokens are in Redis, the page of a user alone shows the user's sessions."""
    auth = KnoxAdminAuth(app, fastapi_users, admin_backend, session_backends=[auth_backend, api_backend])
    admin = Admin(app, engine, authentication_backend=auth)
    admin.add_view(UserAdmin)
    if redis is None:
        admin.add_view(SessionAdmin)
