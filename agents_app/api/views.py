from typing import Any

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agents_app.api import serializers as forms
from agents_app.selectors.agent_grants import AgentKind, agent_kinds
from agents_app.selectors.agents import agents
from agents_app.selectors.tool_grants import GrantedTool, granted_tools
from agents_app.services import agents as agent_service
from agents_app.services import tool_grants as grants
from agents_app.services.agent_grants import allow_agent
from tenants.api.base import ApiView, no_content
from tenants.api.serializers import Query
from tenants.permissions import HasScope, WritesOfWholeTenant
from tenants.roles import Scope


class AgentView(ApiView):
    """Saved agents, which all projects of a tenant share."""

    read_scope = Scope.WORKFLOWS_READ
    write_scope = Scope.WORKFLOWS_WRITE
    permission_classes = (HasScope, WritesOfWholeTenant)

    @extend_schema(parameters=[forms.AgentQuery], responses=forms.AgentOut(many=True))
    def list(self, request: Request) -> Response:
        wanted = self.query(forms.AgentQuery).get("capability")
        return self.page(agents(capability=wanted), forms.AgentOut)

    @extend_schema(responses=forms.AgentOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        return Response(self.shown(forms.AgentOut, self.found(agents())))

    @extend_schema(request=forms.AgentBody, responses={201: forms.AgentOut})
    def create(self, request: Request) -> Response:
        agent = agent_service.create_agent(**self.body(forms.AgentBody))
        return self.created(self.shown(forms.AgentOut, agent), at="agents-detail")

    @extend_schema(request=forms.AgentBody(partial=True), responses=forms.AgentOut)
    def partial_update(self, request: Request, **_: Any) -> Response:
        agent = self.found(agents())
        changed = agent_service.change_agent(agent, **self.body(forms.AgentBody, partial=True))
        return Response(self.shown(forms.AgentOut, changed))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **_: Any) -> Response:
        """Delete the agent. Published versions that use it keep their copy."""
        agent_service.delete_agent(self.found(agents()))
        return no_content()


class AgentTypeView(ApiView):
    """Types of agents, custom agents among them, and which of them the tenant allows."""

    read_scope = Scope.WORKFLOWS_READ
    write_scope = Scope.ADMIN
    permission_classes = (HasScope, WritesOfWholeTenant)
    lookup_field = "name"
    lookup_value_converter = "str"
    pagination_class = None

    @extend_schema(parameters=[forms.AgentQuery], responses=forms.AgentTypeList)
    def list(self, request: Request) -> Response:
        wanted = self.query(forms.AgentQuery).get("capability")
        kinds = [kind for kind in agent_kinds() if wanted in (None, *kind.capabilities)]
        shown = self.shown(forms.AgentTypeOut, kinds, many=True)
        return Response({"next": None, "previous": None, "results": shown})

    @extend_schema(responses=forms.AgentTypeOut)
    def retrieve(self, request: Request, name: str) -> Response:
        return self.one(_kind(name), forms.AgentTypeOut)

    @extend_schema(request=forms.AgentTypeChange, responses=forms.AgentTypeOut)
    def partial_update(self, request: Request, name: str) -> Response:
        """Allow a type or a custom agent to the tenant's workflows, or refuse it.

        Types that come along are allowed at first, custom agents are not. Of what is refused no
        workflow can be published; a custom agent is not run any more either, within seconds.
        """
        allow_agent(_kind(name).name, allowed=self.body(forms.AgentTypeChange)["allowed"])
        return self.one(_kind(name), forms.AgentTypeOut)


def _kind(name: str) -> AgentKind:
    for kind in agent_kinds():
        if kind.name == name:
            return kind
    raise Http404


class ToolView(ApiView):
    """Functions that agents may call, and which of them the tenant allows."""

    read_scope = Scope.WORKFLOWS_READ
    write_scope = Scope.ADMIN
    permission_classes = (HasScope, WritesOfWholeTenant)
    lookup_field = "name"
    lookup_value_converter = "str"
    pagination_class = None

    @extend_schema(responses=forms.ToolList)
    def list(self, request: Request) -> Response:
        self.query(Query)
        tools = self.shown(forms.ToolOut, granted_tools(), many=True)
        return Response({"next": None, "previous": None, "results": tools})

    @extend_schema(responses=forms.ToolOut)
    def retrieve(self, request: Request, name: str) -> Response:
        return self.one(_found(name), forms.ToolOut)

    @extend_schema(request=forms.ToolChange, responses=forms.ToolOut)
    def partial_update(self, request: Request, name: str) -> Response:
        """Allow or refuse a tool, or set it up. Workers know within seconds."""
        tool = _found(name).tool
        grants.change_grant(tool, **self.body(forms.ToolChange))
        return self.one(_found(name), forms.ToolOut)


def _found(name: str) -> GrantedTool:
    for each in granted_tools():
        if each.name == name:
            return each
    raise Http404
