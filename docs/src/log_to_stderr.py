"""Show the events: Python logs nothing below WARNING unless the application says so, nor does uvicorn."""

import logging

logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
logging.getLogger("fastapi_users_knox").setLevel(logging.INFO)
