"""The tools of a tenant as its people see them: allowed or not, why, and how they are set up."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from agents_app.core.model import JsonSchema
from agents_app.core.tools import Tool
from agents_app.models import ToolGrant
from agents_app.selectors.toolboxes import toolbox_of
from tenants.scope import current_tenant_id


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedTool:
    """`chosen` is what the tenant says of approvals; None: as the tool itself says."""

    tool: Tool
    settings: Mapping[str, JsonValue]
    chosen: Mapping[str, JsonValue] | None = None

    @property
    def name(self) -> str:
        return self.tool.name

    @property
    def description(self) -> str:
        return self.tool.description

    @property
    def parameters(self) -> JsonSchema:
        return self.tool.parameters

    @property
    def allowed(self) -> bool:
        return not self.tool.withheld

    @property
    def withheld(self) -> str:
        return self.tool.withheld

    @property
    def approval(self) -> dict[str, JsonValue] | None:
        """Whose agreement each call needs; None if nobody's."""
        return self.tool.approval.model_dump(mode="json") if self.tool.approval else None

    @property
    def settings_schema(self) -> JsonSchema | None:
        return self.tool.settings.model_json_schema() if self.tool.settings else None


def granted_tools() -> list[GrantedTool]:
    """Every tool there is for the open tenant, by name."""
    rows = ToolGrant.objects.values_list("tool", "settings", "approval")
    grants = {name: (settings, approval) for name, settings, approval in rows}
    return [
        GrantedTool(
            tool=tool,
            settings=grants.get(tool.name, ({}, None))[0],
            chosen=grants.get(tool.name, ({}, None))[1],
        )
        for tool in sorted(toolbox_of(current_tenant_id()).all(), key=lambda tool: tool.name)
    ]
