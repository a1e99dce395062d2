"""An application with everything: FastAPI-Users' routers, and this package's tokens in SQL or Redis."""
