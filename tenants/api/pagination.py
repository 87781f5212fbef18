from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError as NotOfTheField
from django.db.models import QuerySet
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.views import APIView

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


class NewestFirst(CursorPagination):
    """Pages by a cursor, which stays right while rows are added. Ids grow with time."""

    page_size = DEFAULT_LIMIT
    page_size_query_param = "limit"
    page_size_query_description = f"Rows a page, 1 to {MAX_LIMIT}; {DEFAULT_LIMIT} unless told."
    max_page_size = MAX_LIMIT
    ordering: str | tuple[str, ...] = "-id"

    def get_page_size(self, request: Request) -> int:
        return limit_of(request)

    def decode_cursor(self, request: Request) -> Cursor | None:
        try:
            return super().decode_cursor(request)
        except NotFound:
            raise _bad_cursor() from None

    def paginate_queryset(
        self,
        queryset: QuerySet[Any] | Sequence[Any],
        request: Request,
        view: APIView | None = None,
    ) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (NotOfTheField, ValueError):
            # A forged cursor's position is no value of the column.
            raise _bad_cursor() from None


class ByPosition(NewestFirst):
    ordering = ("position", "id")


class ByNumber(NewestFirst):
    ordering = "number"


def limit_of(request: Request) -> int:
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    is_number = text.isascii() and text.isdigit() and len(text) < 9
    if not is_number or not 1 <= int(text) <= MAX_LIMIT:
        raise ValidationError({"limit": f"Write a number from 1 to {MAX_LIMIT}."})
    return int(text)


def _bad_cursor() -> ValidationError:
    return ValidationError({"cursor": "This is not a cursor of this list; begin without one."})
