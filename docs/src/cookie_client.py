"""Log in by cookie, as a test of the application does."""

from fastapi.testclient import TestClient

from cookies import app

jane = {"email": "jane@example.org", "password": "quite-a-good-one"}

with TestClient(app, base_url="https://testserver") as client:
    client.post("/auth/register", json=jane)
    client.post("/browser/login", data={"username": jane["email"], "password": jane["password"]})
    print(client.post("/authenticated-route").json())
