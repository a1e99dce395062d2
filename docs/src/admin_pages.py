"""The admin pages: the sessions and the users."""

from fastapi import FastAPI
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_knox import KnoxCookieTransport
from fastapi_users_knox.admin import KnoxAdminAuth, KnoxTokenView, KnoxUserView
from sqladmin import Admin

from db import KnoxToken, User, engine
from users import auth_backend, fastapi_users, get_knox_strategy

admin_backend = AuthenticationBackend(
    name="admin", transport=KnoxCookieTransport("__Host-admin"), get_strategy=get_knox_strategy
)


class SessionAdmin(KnoxTokenView, model=KnoxToken):
    """The sessions."""

    name = "Session"


class UserAdmin(KnoxUserView, model=User):
    """The users."""


def add_admin_pages(app: FastAPI) -> None:
    """Add the pages at /admin."""
    auth = KnoxAdminAuth(app, fastapi_users, admin_backend, session_backends=[auth_backend])
    admin = Admin(app, engine, authentication_backend=auth)
    admin.add_view(SessionAdmin)
    admin.add_view(UserAdmin)
