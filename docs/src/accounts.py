"""End tokens when the password, the activity or the user changes."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase

from example_app.db import User, get_user_db
from example_app.users import SECRET, get_knox_strategy
from fastapi_users_knox import KnoxBearerTransport, KnoxStrategy, KnoxUserManagerMixin

Users = Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db)]
Strategy = Annotated[KnoxStrategy[User, uuid.UUID], Depends(get_knox_strategy)]


class UserManager(KnoxUserManagerMixin[User, uuid.UUID], UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """What happens to users."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET
    revoke_on_email_change = True  # This one is off unless you switch it on.


async def get_user_manager(user_db: Users, strategy: Strategy) -> UserManager:
    """Give the user manager, which ends the tokens of this strategy."""
    return UserManager(user_db, knox=strategy)


auth_backend = AuthenticationBackend(
    name="knox", transport=KnoxBearerTransport(tokenUrl="auth/login"), get_strategy=get_knox_strategy
)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [auth_backend])
router = APIRouter()


@router.post("/second-factor")
async def set_up_second_factor(
    user: Annotated[User, Depends(fastapi_users.current_user(active=True))],
    user_manager: Annotated[UserManager, Depends(get_user_manager)],
) -> dict[str, int]:
    """Set up a second factor, after which whoever has logged in without it has to log in again."""
    # ... store the factor, and then:
    return {"ended": await user_manager.revoke_other_tokens(user)}
