pip install "./fastapi-users-knox[redis]"
