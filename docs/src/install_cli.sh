pip install "./fastapi-users-knox[cli]"
