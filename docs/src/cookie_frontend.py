"""The frontend is at https://app.example.org, the application at https://api.example.org."""

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_users_knox import KnoxCookieMiddleware, KnoxCookieTransport

FRONTENDS = ["https://app.example.org"]

transport = KnoxCookieTransport(trusted_origins=FRONTENDS)

app = FastAPI()
app.add_middleware(KnoxCookieMiddleware)
app.add_middleware(
    CORSMiddleware, allow_origins=FRONTENDS, allow_credentials=True, allow_methods=["*"], allow_headers=["*"]
)
