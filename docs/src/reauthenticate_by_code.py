"""Re-authentication by a one-time code, and a route for sessions that have proved the code."""

import hmac
import uuid
from typing import Annotated

from fastapi import APIRouter, Body, Depends, HTTPException, Response
from fastapi_users_knox import KnoxStrategy, KnoxUserManagerMixin, TokenRecord, current_token

from db import User
from users import auth_backend, fastapi_users, get_knox_strategy, get_user_manager

router = APIRouter()
current_user_token = fastapi_users.authenticator.current_user_token(active=True)
current_session = current_token(fastapi_users, auth_backend, active=True)


@router.post("/auth/reauthenticate-by-code")
async def reauthenticate_by_code(
    code: Annotated[str, Body(embed=True)],
    current: Annotated[tuple[User, str], Depends(current_user_token)],
    strategy: Annotated[KnoxStrategy[User, uuid.UUID], Depends(get_knox_strategy)],
    user_manager: Annotated[KnoxUserManagerMixin[User, uuid.UUID], Depends(get_user_manager)],
) -> Response:
    """Check the code, and answer like a login."""
    user, token = current

    async def check() -> User | None:
        return user if hmac.compare_digest(code.encode(), expected_code(user)) else None

    if await user_manager.attempt_login(user.email, check, action="reauthentication", purpose="code") is None:
        raise HTTPException(400, "WRONG_CODE")
    new_token = await strategy.reauthenticate(token, user, data={"factors": ["password", "code"]})
    return await auth_backend.transport.get_login_response(new_token)


@router.get("/salary")
async def salary(current: Annotated[tuple[User, TokenRecord[uuid.UUID]], Depends(current_session)]) -> str:
    """Answer only sessions that have proved the code."""
    user, session = current
    if "code" not in session.data.get("factors", []):
        raise HTTPException(403, "CODE_REQUIRED")
    return f"{user.email} earns enough"


def expected_code(user: User) -> bytes:
    """Return the code that the user's app shows; a real application computes it (RFC 6238)."""
    return b"755224"
