fastapi-users-knox check
