"""Let a token be read by its SELECT alone, without BEGIN and ROLLBACK."""

import os

from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(os.environ["DATABASE_URL"], execution_options={"knox_autocommit": True})
