fastapi-users-knox purge --older-than 7d
