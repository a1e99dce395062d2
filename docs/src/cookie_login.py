"""Let no page of another origin log the browser in."""

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi_users.authentication import AuthenticationBackend

from example_app.users import fastapi_users, get_knox_strategy
from fastapi_users_knox import KnoxCookieTransport

transport = KnoxCookieTransport()
cookie_backend = AuthenticationBackend(name="cookie", transport=transport, get_strategy=get_knox_strategy)


async def refuse_other_origins(request: Request) -> None:
    """Answer 403 to what a page of another origin has sent."""
    if not transport.trusts(request):
        raise HTTPException(403, "OTHER_ORIGIN")


app = FastAPI()
app.include_router(
    fastapi_users.get_auth_router(cookie_backend), prefix="/browser", dependencies=[Depends(refuse_other_origins)]
)
