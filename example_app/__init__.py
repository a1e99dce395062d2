"""An application with everything: FastAPI-Users' routers, and knox tokens over SQL or Redis."""
