"""What the views of this package have in common: some columns are shown nowhere, and no page changes a row."""

from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from fastapi import Request, status
from fastapi.exceptions import HTTPException
from sqladmin import ModelView

__all__ = ["ReadOnlyView"]


class ReadOnlyView(ModelView):
    """A view that shows rows without their secrets, and changes nothing.

    Attributes:
        secret_columns: The columns that appear on no page and in no form or export, whatever columns a subclass lists.
    """

    secret_columns: ClassVar[frozenset[str]] = frozenset()
    can_create: ClassVar[bool] = False
    can_edit: ClassVar[bool] = False
    can_delete: ClassVar[bool] = False
    # The browser at a login chooses its own name and user agent. In a spreadsheet, these could be formulas.
    can_export: ClassVar[bool] = False

    def get_list_columns(self) -> list[str]:
        """Return the columns of the list."""
        return self._without_secrets(super().get_list_columns())

    def get_details_columns(self) -> list[str]:
        """Return the columns of the page of one row."""
        return self._without_secrets(super().get_details_columns())

    def get_form_columns(self) -> list[str]:
        """Return the columns of the forms, if a subclass allows them."""
        return self._without_secrets(super().get_form_columns())

    def get_export_columns(self) -> list[str]:
        """Return the columns of an export, if a subclass allows it."""
        return self._without_secrets(super().get_export_columns())

    def get_import_columns(self) -> list[str]:
        """Return the columns of an import, if a subclass allows it."""
        return self._without_secrets(super().get_import_columns())

    async def get_object_for_details(self, request: Request) -> Any:  # noqa: ANN401 (as in sqladmin)
        """Return a row, or `None` if there is none or the text in the path is not an id."""
        with suppress(ValueError):
            return await super().get_object_for_details(request)
        return None

    async def get_object_for_delete(self, value: Any) -> Any:  # noqa: ANN401 (as in sqladmin)
        """Return a row, or `None` if there is none or the text in the path is not an id."""
        with suppress(ValueError):
            return await super().get_object_for_delete(value)
        return None

    async def get_object_filepath(self, identifier: str, column_name: str) -> Path:  # noqa: ARG002 (as in sqladmin)
        """Refuse to serve the file that a column names.

        sqladmin serves any file below the working directory whose path is in a column, and whoever logs in chooses the
        user agent and the device's name.
        """
        raise HTTPException(status.HTTP_404_NOT_FOUND)

    def _without_secrets(self, columns: list[str]) -> list[str]:
        return [name for name in columns if name not in self.secret_columns]
