"""MCP servers whose tools the tenant's agents may call."""

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents_app.core.mcp import SERVER_NAME
from agents_app.models import McpServer
from agents_app.selectors.mcp_servers import (
    STATES,
    is_allowed,
    listed_tools,
    mcp_servers,
    state_of,
)
from agents_app.services import mcp_servers as service
from tenants.api.base import ApiView, no_content
from tenants.api.serializers import Query, Strict, Text
from tenants.idempotency import answered_before
from tenants.permissions import HasScope, WritesOfWholeTenant
from tenants.roles import Scope
from tenants.scope import tenant_scope


class McpServerChange(Strict):
    description = Text(max_length=2_000, required=False, allow_blank=True)
    credential = Text(
        max_length=100,
        required=False,
        allow_blank=True,
        help_text="The name of a credential for tools; its secret is sent as a bearer token.",
    )
    allowed_tools = serializers.ListField(
        child=Text(max_length=200),
        required=False,
        max_length=200,
        help_text="By the server's own names; without any, all of them.",
    )
    timeout_seconds = serializers.IntegerField(
        required=False, min_value=1, max_value=600, help_text="For a call; 60 unless told."
    )
    enabled = serializers.BooleanField(required=False)


class McpServerBody(McpServerChange):
    name = serializers.RegexField(
        SERVER_NAME,
        help_text="1 to 24 lower-case letters, digits and hyphens: its tools' names begin with it.",
    )
    url = Text(
        max_length=500,
        required=False,
        allow_blank=True,
        help_text="Where it answers (streamable HTTP). It cannot be changed later.",
    )
    command = Text(
        max_length=100,
        required=False,
        allow_blank=True,
        help_text="Instead of an address: one of the operator's commands.",
    )


class McpToolOut(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="By which agents have it.")
    remote = serializers.CharField(help_text="What its server calls it.")
    description = serializers.CharField()
    parameters = serializers.DictField(help_text="JSON Schema of the arguments.")
    is_repeatable = serializers.BooleanField(
        help_text="The server says that calling it twice does no harm."
    )
    is_destructive = serializers.BooleanField(
        help_text="The server says that it may destroy something: each call needs an approval."
    )
    is_allowed = serializers.BooleanField()


class McpServerOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField()
    url = serializers.CharField()
    command = serializers.CharField()
    credential = serializers.CharField()
    allowed_tools = serializers.ListField(child=serializers.CharField())
    timeout_seconds = serializers.IntegerField()
    enabled = serializers.BooleanField()
    state = serializers.SerializerMethodField()
    error = serializers.CharField(help_text="Why it could not be asked the last time; or empty.")
    asked_at = serializers.DateTimeField(allow_null=True)
    listed_at = serializers.DateTimeField(
        allow_null=True, help_text="When it last said which tools it has."
    )
    tools = serializers.SerializerMethodField()
    left_out = serializers.ListField(
        child=serializers.CharField(), help_text="Tools that cannot be used, and why."
    )
    changes = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        help_text="What the last change of its list `added`, `removed` and `changed`.",
    )
    changed_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    @extend_schema_field(serializers.ChoiceField(STATES))
    def get_state(self, row: McpServer) -> str:
        return state_of(row)

    @extend_schema_field(McpToolOut(many=True))
    def get_tools(self, row: McpServer) -> Any:
        tools = listed_tools(row)
        shown = [{**tool.as_row(), "is_allowed": is_allowed(row, tool)} for tool in tools]
        return McpToolOut(shown, many=True).data


class McpServerView(ApiView):
    """Servers whose tools the tenant's agents may call."""

    read_scope = Scope.WORKFLOWS_READ
    write_scope = Scope.ADMIN
    permission_classes = (HasScope, WritesOfWholeTenant)

    @extend_schema(responses=McpServerOut(many=True))
    def list(self, request: Request) -> Response:
        self.query(Query)
        return self.page(mcp_servers(), McpServerOut)

    @extend_schema(responses=McpServerOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        return self.one(self.found(mcp_servers()), McpServerOut)

    @extend_schema(request=McpServerBody, responses={201: McpServerOut})
    def create(self, request: Request) -> Response:
        """Keep a server. A control worker asks it for its tools within seconds."""
        made = service.create_server(**self.body(McpServerBody))
        return self.created(self.shown(McpServerOut, made), at="mcp-servers-detail")

    @extend_schema(request=McpServerChange, responses=McpServerOut)
    def partial_update(self, request: Request, **_: Any) -> Response:
        """Change what is not its name or its place."""
        server = self.found(mcp_servers())
        changed = service.change_server(server, **self.body(McpServerChange))
        return self.one(changed, McpServerOut)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **_: Any) -> Response:
        """Delete it. Steps that use its tools fail from then on."""
        service.delete_server(self.found(mcp_servers()))
        return no_content()


class McpRefreshView(ApiView):
    """Asks a server. Opens its scopes itself: nothing is held while the server is asked."""

    write_scope = Scope.ADMIN
    permission_classes = (HasScope, WritesOfWholeTenant)

    @extend_schema(request=None, responses=McpServerOut)
    def refresh(self, request: Request, **_: Any) -> Response:
        """Ask the server which tools it has. At most once in 10 seconds, else 429.

        What it said before stays where it cannot be asked; `error` tells why.
        """
        with tenant_scope(self.principal.tenant_id):
            before = answered_before(request, principal=self.principal)
            if before is not None:
                return before
            asking = service.begin(self.found(mcp_servers()))
        service.give_back_connection()
        asked = service.ask(asking)
        with tenant_scope(self.principal.tenant_id):
            keep = super()._once
            return keep(lambda _: self.one(service.finish(asking, asked), McpServerOut), request)

    def _once(
        self, handler: Callable[..., Response], request: Request, *args: Any, **kwargs: Any
    ) -> Response:
        # Not in one transaction, as elsewhere; `refresh` does it in two.
        return handler(request, *args, **kwargs)
