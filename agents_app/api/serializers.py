from typing import Any

from django.conf import settings
from rest_framework import serializers

from agents_app.agent_types import ALL_TYPES
from agents_app.core.custom import MAX_CAPABILITIES
from agents_app.core.roles import Role
from agents_app.core.types.aggregator import MODES
from agents_app.core.types.prompt import MAX_REPAIRS
from agents_app.core.types.react import MAX_TURNS
from tenants.api.serializers import Query, Slug, Strict, Text

_LONG = 200_000


class AgentSettings(Strict):
    """What types beyond `prompt` need."""

    tool = Text(max_length=100, required=False, help_text="Type tool: the tool's name.")
    arguments = serializers.DictField(
        required=False, help_text="Types tool and custom: may hold variables."
    )
    mode = serializers.ChoiceField(list(MODES), required=False, help_text="Type aggregator.")
    max_turns = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_TURNS,
        help_text="Types react and planner: calls of its model.",
    )
    max_total_tokens = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=1_000_000_000,
        help_text="Likewise: those that its model reads and writes, in all turns together.",
    )
    repairs = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_REPAIRS,
        help_text="Types that ask a model: further turns for an answer that does not fit its form.",
    )
    criteria = Text(
        max_length=_LONG, required=False, allow_blank=True, help_text="Type evaluator: plain text."
    )
    threshold = serializers.FloatField(
        required=False,
        min_value=0,
        max_value=1,
        help_text="Type evaluator: the least score that is accepted; else the model decides.",
    )
    routes = serializers.ListField(
        child=serializers.RegexField(r"^[a-z][a-z0-9_]{0,62}$"),
        required=False,
        min_length=1,
        max_length=100,
        help_text="Type router: the names to choose from.",
    )
    implementation = Text(max_length=63, required=False, help_text="Type custom: its name.")
    delegates = serializers.ListField(
        child=Slug(), required=False, max_length=100, help_text="Saved agents that it may ask."
    )
    workflows = serializers.ListField(
        child=Text(max_length=80), required=False, max_length=100, help_text="Likewise."
    )
    delegate_cost_usd = Text(
        max_length=20, required=False, help_text="What each of these may cost."
    )
    max_tasks = serializers.IntegerField(required=False, min_value=1, max_value=200)
    approve = serializers.BooleanField(required=False, help_text="Type planner: ask a person.")
    approve_above_usd = Text(max_length=20, required=False, help_text="Only for dearer plans.")
    objective = Text(max_length=_LONG, required=False, help_text="What patterns read instead.")
    role_models = serializers.DictField(
        required=False, help_text="A provider and a model for tasks of a role."
    )
    report = serializers.BooleanField(required=False, help_text="Give the tasks too.")
    memory = serializers.DictField(
        required=False, help_text="Type react: max_tokens, summary; see the guide to agents."
    )
    separator = Text(max_length=1_000, required=False, help_text="Type aggregator, mode concat.")


class AgentQuery(Query):
    capability = Text(max_length=63, required=False, help_text="Only those that have it.")


class AgentBody(Strict):
    slug = Slug()
    name = Text(max_length=200, required=False)
    description = Text(max_length=20_000, required=False, allow_blank=True)
    type = serializers.ChoiceField([kind.name for kind in ALL_TYPES], required=False)
    role = serializers.ChoiceField(list(Role), required=False, allow_blank=True)
    provider = serializers.ChoiceField(
        list(settings.MUSTER_PROVIDERS), required=False, allow_blank=True
    )
    model = Text(max_length=200, required=False, allow_blank=True)
    system = Text(max_length=_LONG, required=False, allow_blank=True)
    prompt = Text(max_length=_LONG, required=False, allow_blank=True)
    tools = serializers.ListField(
        child=Text(max_length=100), required=False, max_length=100, help_text="Type react."
    )
    parameters = serializers.DictField(required=False)
    output_schema = serializers.DictField(required=False, allow_null=True)
    settings = AgentSettings(required=False)
    capabilities = serializers.ListField(
        child=Slug(),
        required=False,
        max_length=MAX_CAPABILITIES,
        help_text="What it is good for, in words such as `translation`.",
    )


class AgentOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    type = serializers.CharField()
    role = serializers.CharField()
    provider = serializers.CharField()
    model = serializers.CharField()
    system = serializers.CharField()
    prompt = serializers.CharField()
    tools = serializers.ListField(child=serializers.CharField())
    parameters = serializers.DictField()
    output_schema = serializers.DictField(allow_null=True)
    settings = serializers.DictField()
    capabilities = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class AgentTypeChange(Strict):
    allowed = serializers.BooleanField(help_text="Whether this tenant's workflows may use it.")


class AgentTypeOut(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="A type, or the `implementation` of a custom agent.")
    type = serializers.CharField(help_text="What a workflow says: the name itself, or `custom`.")
    description = serializers.CharField()
    capabilities = serializers.ListField(child=serializers.CharField())
    origin = serializers.CharField(help_text="`built-in`, a file of the operator's, or a package.")
    calls_model = serializers.BooleanField()
    allowed = serializers.BooleanField(help_text="Whether this tenant's workflows may use it.")
    fault = serializers.CharField(help_text="Why it is broken and cannot be used; else empty.")


class AgentTypeList(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = AgentTypeOut(many=True)


class ToolChange(Strict):
    allowed = serializers.BooleanField(
        required=False, help_text="Whether agents of this tenant may use it."
    )
    settings = serializers.DictField(
        required=False, help_text="In place of what was set before; see `settings_schema`."
    )


class ToolOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField()
    parameters = serializers.DictField(help_text="JSON Schema of the arguments.")
    allowed = serializers.BooleanField(help_text="Whether agents of this tenant may use it.")
    withheld = serializers.CharField(help_text="Why they may not, and what helps; else empty.")
    settings = serializers.DictField(help_text="What the tenant has set for it.")
    settings_schema = serializers.DictField(
        allow_null=True, help_text="JSON Schema of its settings; null if it has none."
    )


class ToolList(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = ToolOut(many=True)
