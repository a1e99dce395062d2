"""What the API takes and tells of a user."""

import uuid

from fastapi_users import schemas


class UserRead(schemas.BaseUser[uuid.UUID]):
    """What is told."""


class UserCreate(schemas.BaseUserCreate):
    """What is needed to register."""


class UserUpdate(schemas.BaseUserUpdate):
    """What can be changed."""
