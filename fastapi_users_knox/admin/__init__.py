"""Pages for sqladmin (extra `admin`): the sessions of all users, and a login with tokens of this package."""

from fastapi_users_knox.admin.authentication import KnoxAdminAuth
from fastapi_users_knox.admin.token_view import KnoxTokenView
from fastapi_users_knox.admin.user_view import KnoxUserView

__all__ = ["KnoxAdminAuth", "KnoxTokenView", "KnoxUserView"]
