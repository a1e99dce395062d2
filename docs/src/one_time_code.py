"""A route that checks a one-time code, with the limits of the throttle."""

import hmac
import uuid
from typing import Annotated

from fastapi import APIRouter, Body, Depends, HTTPException
from fastapi_users_knox import KnoxUserManagerMixin

from db import User
from users import current_active_user, get_user_manager

router = APIRouter()


@router.post("/one-time-code", status_code=204)
async def check_one_time_code(
    code: Annotated[str, Body(embed=True)],
    user: Annotated[User, Depends(current_active_user)],
    user_manager: Annotated[KnoxUserManagerMixin[User, uuid.UUID], Depends(get_user_manager)],
) -> None:
    """Accept the code, or answer 400, and after too many wrong codes 429."""

    async def check() -> User | None:
        return user if hmac.compare_digest(code.encode(), expected_code(user)) else None

    if await user_manager.attempt_login(user.email, check, action="reauthentication") is None:
        raise HTTPException(400, "WRONG_CODE")


def expected_code(user: User) -> bytes:
    """Return the code that the user's app shows; a real application computes it (RFC 6238)."""
    return b"755224"
