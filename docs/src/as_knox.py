"""Talk to clients as django-rest-knox does: its header prefix, and the user in the login's answer."""

from example_app.schemas import UserRead
from fastapi_users_knox import KnoxBearerTransport

transport = KnoxBearerTransport(tokenUrl="auth/login", header_prefix="Token", user_schema=UserRead)
