"""A machine client: it reads its API token from the environment, and says what to do if the token is refused."""

import asyncio
import os
import sys

import httpx

ADVICE = {
    401: "The token has expired or was ended. Create or roll it in your browser, and set API_TOKEN anew.",
    403: "The token lacks a scope: {challenge}. Create a token that has it.",
}


async def call_tool(name: str, client: httpx.AsyncClient) -> str:
    """Call a tool and return its text, or exit with advice if the token is refused."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name}}
    answer = await client.post("/mcp", json=call)
    if answer.status_code in ADVICE:
        sys.exit(ADVICE[answer.status_code].format(challenge=answer.headers["WWW-Authenticate"]))
    text: str = answer.raise_for_status().json()["result"]["content"][0]["text"]
    return text


async def main() -> None:
    """Read the reports."""
    headers = {"Authorization": f"Bearer {os.environ['API_TOKEN']}"}
    async with httpx.AsyncClient(base_url="http://127.0.0.1:8000", headers=headers) as client:
        print(await call_tool("read_reports", client))


if __name__ == "__main__":
    asyncio.run(main())
