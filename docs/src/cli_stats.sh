fastapi-users-knox stats
