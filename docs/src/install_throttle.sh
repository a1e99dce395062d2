pip install "./fastapi-users-knox[throttle]"
