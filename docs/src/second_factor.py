"""A route that sets up a second factor, after which the user's other devices have to log in again."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi_users_knox import KnoxUserManagerMixin

from db import User
from users import current_active_user, get_user_manager

router = APIRouter()


@router.post("/second-factor")
async def set_up_second_factor(
    user: Annotated[User, Depends(current_active_user)],
    user_manager: Annotated[KnoxUserManagerMixin[User, uuid.UUID], Depends(get_user_manager)],
) -> dict[str, int]:
    """Set up a second factor, and log out the user's other devices."""
    # Store the factor here.
    return {"revoked": await user_manager.revoke_other_tokens(user)}
