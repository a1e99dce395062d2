"""The application, built before the processes of an attack are forked, because each would need seconds for it."""

from tests.throttling.site import create_app

APP = create_app()
