pip install "fastapi-users-knox[sqlalchemy]"
