"""An endpoint for assistants and other machine clients, which call tools with JSON-RPC, as in MCP."""

import uuid
from typing import Annotated, Literal

from fastapi import Security
from fastapi_users_knox import InsufficientScope, TokenRecord, current_token
from pydantic import BaseModel

from api_tokens import api_backend
from app import app
from db import User
from users import fastapi_users

# The scope that each tool needs, in addition to the scope of the route.
TOOLS = {"read_reports": "reports:read", "add_report": "reports:write"}

machine = current_token(fastapi_users, api_backend, active=True)


class Params(BaseModel):
    """The tool that a client calls."""

    name: Literal["read_reports", "add_report"]


class Call(BaseModel):
    """A request of JSON-RPC 2.0."""

    jsonrpc: Literal["2.0"]
    id: int | str
    method: Literal["tools/call"]
    params: Params


@app.post("/mcp")
async def call_tool(
    call: Call,
    current: Annotated[tuple[User, TokenRecord[uuid.UUID]], Security(machine, scopes=["reports:read"])],
) -> dict[str, object]:
    """Call a tool for the user whose token the client presents."""
    user, record = current
    needed = TOOLS[call.params.name]
    if needed not in (record.scopes or ()):
        raise InsufficientScope({needed})
    text = f"{call.params.name} for {user.email}"
    return {"jsonrpc": "2.0", "id": call.id, "result": {"content": [{"type": "text", "text": text}]}}
