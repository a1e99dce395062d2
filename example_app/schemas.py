"""What the API accepts and shows about users."""

import uuid

from fastapi_users import schemas


class UserRead(schemas.BaseUser[uuid.UUID]):
    """A user, as the API shows it."""


class UserCreate(schemas.BaseUserCreate):
    """What is needed to register."""


class UserUpdate(schemas.BaseUserUpdate):
    """What can be changed."""
