fastapi-users-knox logout-all jane@example.org
