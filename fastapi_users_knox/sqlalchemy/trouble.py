"""The conversion of database errors to `StoreUnavailable`."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from fastapi_users_knox.errors import StoreUnavailable
from fastapi_users_knox.sqlalchemy.database import Database
from fastapi_users_knox.sqlalchemy.dialects import without_data

__all__ = ["raising_store_unavailable"]

_MISTAKES = (exc.IntegrityError, exc.ProgrammingError, exc.DataError)


@contextmanager
def raising_store_unavailable(database: Database) -> Iterator[None]:
    """Raise `StoreUnavailable` if the database cannot be reached or cannot answer.

    An error that shows a mistake in the program, such as a missing table, is raised as it is, but without row values.
    """
    try:
        yield
    except _MISTAKES as error:
        if database.sql.mapper.local_table.description not in str(error.statement):
            raise  # A statement of the application has failed.
        raise without_data(error) from None
    except (exc.DBAPIError, exc.TimeoutError, OSError) as error:
        raise StoreUnavailable.because(error) from None
    except exc.StatementError as error:
        # The application has added a column whose default or type has raised an error. SQLAlchemy's own error would
        # show all parameters.
        raise (error.orig or error) from None
    except Exception as error:
        # SQLAlchemy does not wrap what asyncpg raises while it connects.
        if type(error).__module__.partition(".")[0] == database.bind().dialect.driver:
            raise StoreUnavailable.because(error) from None
        raise
