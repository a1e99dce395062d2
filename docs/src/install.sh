git clone https://github.com/fastapi-users-knox/fastapi-users-knox
pip install "./fastapi-users-knox[sqlalchemy]" uvicorn
