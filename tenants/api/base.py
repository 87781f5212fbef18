"""What all views of the API share. Views parse, call one service or selector, and answer."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, cast

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from rest_framework import status
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet

from tenants.api.serializers import Strict
from tenants.idempotency import answer_once
from tenants.principals import Principal
from tenants.roles import Scope


class ApiView(GenericViewSet[Any]):
    """A resource. Without `read_scope` and `write_scope` it is shut.

    Every POST honours Idempotency-Key; `secrets` names the fields of its answer that are
    shown once and never stored.
    """

    read_scope: ClassVar[Scope | None] = None
    write_scope: ClassVar[Scope | None] = None
    secrets: ClassVar[tuple[str, ...]] = ()
    lookup_field = "id"
    lookup_value_converter = "uuid"
    metadata_class = None
    filter_backends = ()

    @property
    def principal(self) -> Principal:
        return cast(Principal, self.request.user)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # Wrapped here, behind authentication, so that no view can forget it.
        handler: Callable[..., Response] | None = getattr(self, "post", None)
        if request.method == "POST" and handler is not None:
            self.post = partial(self._once, handler)

    def _once(
        self, handler: Callable[..., Response], request: Request, *args: Any, **kwargs: Any
    ) -> Response:
        return answer_once(
            request,
            partial(handler, request, *args, **kwargs),
            principal=self.principal,
            secrets=self.secrets,
        )

    def body(self, form: type[Strict], *, partial: bool = False) -> dict[str, Any]:
        return _checked(form(data=self.request.data, partial=partial))

    def query(self, form: type[Strict]) -> dict[str, Any]:
        return _checked(form(data=self.request.query_params))

    def asks_for_all_tenants(self, asked: Mapping[str, Any]) -> bool:
        """Whether a `WhoseQuery` does; nobody but an operator may."""
        if asked["tenants"] == "all" and not self.principal.is_operator:
            raise PermissionDenied("Only an operator of the platform sees all tenants.")
        return bool(asked["tenants"] == "all")

    def found(self, rows: QuerySet[Any], **lookup: Any) -> Any:
        """The one row that the address names, or 404."""
        return get_object_or_404(rows, **(lookup or {"id": self.kwargs["id"]}))

    def page(
        self,
        rows: QuerySet[Any],
        form: type[BaseSerializer[Any]],
        *,
        prepared: Callable[[Iterable[Any]], list[Any]] = list,
    ) -> Response:
        """A page of the rows; `prepared` looks up what all of its rows need at once."""
        shown = prepared(self.paginate_queryset(rows) or ())
        return self.get_paginated_response(self.shown(form, shown, many=True))

    def one(self, row: Any, form: type[BaseSerializer[Any]]) -> Response:
        return Response(self.shown(form, row))

    def shown(self, form: type[BaseSerializer[Any]], value: Any, *, many: bool = False) -> Any:
        return form(value, many=many, context=self.get_serializer_context()).data

    def created(
        self,
        data: Mapping[str, Any],
        *,
        at: str,
        code: int = status.HTTP_201_CREATED,
        ids: Mapping[str, Any] | None = None,
    ) -> Response:
        """An answer with the new thing and its address; `at` is the name of its route."""
        address = reverse(at, kwargs=ids or {"id": data["id"]}, request=self.request)
        return Response(data, status=code, headers={"Location": address})


def no_content() -> Response:
    return Response(status=status.HTTP_204_NO_CONTENT)


def _checked(form: Strict) -> dict[str, Any]:
    form.is_valid(raise_exception=True)
    return cast(dict[str, Any], form.validated_data)
