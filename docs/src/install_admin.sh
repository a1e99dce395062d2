pip install "./fastapi-users-knox[admin]"
