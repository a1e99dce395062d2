"""The check of a password that the user of a session enters again."""

from fastapi import HTTPException, status
from fastapi.security import OAuth2PasswordRequestForm
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from fastapi_users.router.common import ErrorCode

from fastapi_users_knox.manager import KnoxUserManagerMixin

__all__ = ["user_with_password"]


async def user_with_password(user_manager: BaseUserManager[UP, ID], user: UP, password: str) -> UP:
    """Check a user's password as a login does, and return the user as loaded by that check, active or not.

    The check may have replaced an outdated hash, so only the returned object has the credentials that are stored now.
    A `KnoxUserManagerMixin` counts the check as an attempt to re-authenticate, and publishes a failure.

    Raises:
        HTTPException: The password is wrong, or `authenticate` returns another user. The answer is 400, as at a login.
        TooManyAttempts: There were too many attempts, so the password was not checked.
    """
    user_id, email = user.id, user.email  # A commit during the check may expire the object.

    async def check() -> UP | None:
        found = await user_manager.authenticate(OAuth2PasswordRequestForm(username=email, password=password))
        return found if found is not None and found.id == user_id else None

    found: UP | None
    if isinstance(user_manager, KnoxUserManagerMixin):
        # The application may check a second factor by the same action, whose counters a password must not reset.
        found = await user_manager.attempt_login(email, check, action="reauthentication", purpose="password")
    else:
        found = await check()
    if found is None:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, ErrorCode.LOGIN_BAD_CREDENTIALS)
    return found
