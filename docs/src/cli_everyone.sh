fastapi-users-knox logout-everyone --yes
