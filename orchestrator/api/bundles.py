from typing import Any

from rest_framework import serializers

from orchestrator.api import serializers as forms
from orchestrator.services.bundles import ON_CONFLICT, Installed
from tenants.api.serializers import Query


class BundleQuery(Query):
    version = serializers.IntegerField(
        required=False, min_value=1, max_value=999_999, help_text="Instead of the draft."
    )


class InstallQuery(forms.ProjectChoice, Query):
    on_conflict = serializers.ChoiceField(
        list(ON_CONFLICT),
        default="refuse",
        help_text="What is done where another agent or workflow has a name already: nothing is "
        "installed, what comes gets another name, or it takes the place of what is there.",
    )
    publish = serializers.BooleanField(
        default=False, help_text="The workflow too; those that it calls are published anyway."
    )


class InstalledOut(serializers.Serializer[Any]):
    workflow = forms.WorkflowOut()
    version = serializers.IntegerField(allow_null=True, help_text="Null: it is a draft.")
    agents = serializers.DictField(
        child=serializers.CharField(), help_text="By its slug in the bundle, that of each here."
    )
    workflows = serializers.DictField(
        child=serializers.CharField(), help_text="By its name in the bundle, that of each here."
    )


def told_installed(installed: Installed) -> dict[str, Any]:
    version = installed.version
    return {
        "workflow": installed.workflow,
        "version": version.number if version else None,
        "agents": installed.agents,
        "workflows": installed.workflows,
    }
