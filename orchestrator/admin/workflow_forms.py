"""A draft as forms: the header, and one form per step in the author's order.

What is left untouched is stored again exactly as it was, so a round through the browser loses
nothing of a spec that was written elsewhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from agents_app.admin_choices import (
    ROLES,
    known_models,
    provider_choices,
    tool_names,
    type_choices,
)
from agents_app.models import Agent
from orchestrator.core.graph import find_cycle
from orchestrator.core.spec import FIELDS_OF_AGENT
from orchestrator.models import Step, Workflow
from orchestrator.models.workflow import step_name_validator
from orchestrator.services.workflows import tenant_catalog
from tenants.admin_base import TenantForm
from tenants.admin_fields import (
    JsonField,
    OpenChoiceField,
    PlainTextField,
    SuggestInput,
    TextArea,
    choice_field,
    offer,
)

IN_PLACE = "="  # no slug can be that, nor begin with ANY_FOR
ANY_FOR = "*"
STRATEGIES = {
    "levels": "Level by level: parallel inside a level",
    "sequential": "Sequential: one step after another",
    "adaptive": "Adaptive: each step as soon as its inputs are ready",
}
_PLACE = "such as ${input.topic} or ${steps.outline.output}"


class TemplateField(JsonField):
    """Any JSON value; text that holds a variable may stand without quotes."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(kind=None, **kwargs)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and value.strip().startswith("${"):
            return value.strip()
        return super().to_python(value)

    def prepare_value(self, value: Any) -> Any:
        is_variable = isinstance(value, str) and value.startswith("${") and value == value.strip()
        return value if is_variable else super().prepare_value(value)


class WorkflowForm(TenantForm):
    unique = ("project", "name")
    description = PlainTextField(widget=TextArea({"rows": 2}))
    module = PlainTextField(
        widget=UnfoldAdminTextInputWidget(),
        max_length=63,
        help_text="Business area, such as finance; reports group by it.",
    )
    max_parallel = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=10_000,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Most agents of one run at a time.",
    )
    inputs = JsonField(
        rows=8,
        help_text="JSON Schema of the run's input. The run form is made from it.",
    )
    output = TemplateField(
        rows=2,
        help_text=f"What the run gives, {_PLACE}. Left out: what its last steps give.",
    )
    defaults = JsonField(
        rows=3,
        help_text='For every step that does not say otherwise, such as {"provider": "local", '
        '"model": "smollm2", "timeout": "60s"}.',
    )
    settings = JsonField(
        rows=4,
        help_text="The rest of the spec by its own names, such as "
        '{"failure": {"mode": "partial"}}.',
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["strategy"] = choice_field(
            STRATEGIES, current=self.instance.strategy, empty="Level by level (default)"
        )

    def clean_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = self.cleaned_data["settings"] or {}
        _refuse_own_fields(settings, {*self.fields, "steps", "muster"} - {"settings"})
        return settings

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        keep_untouched(self)
        return cleaned


class StepForm(forms.ModelForm):  # type: ignore[type-arg]
    # What the pickers offer, asked once for all steps of a page.
    agents: ClassVar[Mapping[str, str]] = {}  # slug, or capability behind ANY_FOR -> label
    models: ClassVar[Sequence[str]] = ()
    known_tools: ClassVar[Sequence[str]] = ()
    siblings: ClassVar[Sequence[str]] = ()

    name = forms.CharField(
        max_length=63,
        widget=UnfoldAdminTextInputWidget({"class": "m-step-name", "autocomplete": "off"}),
        help_text="Lower-case letters, digits and _.",
        validators=[step_name_validator],
    )
    position = forms.IntegerField(
        required=False,
        min_value=0,
        label="Place",
        widget=UnfoldAdminIntegerFieldWidget(),
    )
    description = PlainTextField(widget=TextArea({"rows": 2}))
    needs = OpenChoiceField(help_text="Steps that must have ended before this one begins.")
    agent_source = forms.ChoiceField(
        required=False, label="Agent", help_text="Saved, or described here."
    )
    agent_type = forms.ChoiceField(required=False, label="Type")
    agent_role = forms.ChoiceField(required=False, label="Role")
    agent_more = JsonField(
        label="More of the agent",
        rows=3,
        help_text='Type tool: {"tool": "calculator", "arguments": {"expression": "1 + 1"}}. '
        'Type aggregator: {"mode": "concat"}.',
    )
    prompt = PlainTextField(widget=TextArea({"rows": 5}), help_text=f"May use variables, {_PLACE}.")
    system = PlainTextField(label="System prompt", help_text="Plain text, without variables.")
    model = PlainTextField(max_length=200)
    tools = OpenChoiceField()
    parameters = JsonField(
        rows=3, help_text='Such as {"temperature": 0.2, "max_output_tokens": 800}.'
    )
    output_schema = JsonField(rows=5, help_text="JSON Schema of the answer, if it is to be JSON.")
    timeout = PlainTextField(
        widget=UnfoldAdminTextInputWidget({"placeholder": "30s"}), max_length=32
    )
    priority = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=10,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="0 to 10; 5 unless set.",
    )
    settings = JsonField(
        label="Other settings",
        rows=3,
        help_text='By their names in the spec, such as {"arguments": {"text": "${input.text}"}}.',
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        step: Step = self.instance
        agent = step.agent if is_described(step.agent) else {}
        self._offer_agents(step.agent)
        self.fields["agent_type"] = choice_field(
            {name: name for name in type_choices()}, current=agent.get("type"), label="Type"
        )
        self.fields["agent_role"] = choice_field(
            ROLES, current=agent.get("role"), label="Role", empty="Guess it from the prompt"
        )
        self.fields["provider"] = choice_field(
            provider_choices(), current=step.provider, empty="As the agent or the defaults say"
        )
        self.fields["model"].widget = SuggestInput(self.models)
        data: Any = self.data
        chosen = data.getlist(self.add_prefix("needs")) if self.is_bound else []
        offer(self, "needs", self.siblings, chosen=[*(step.needs or ()), *chosen])
        offer(self, "tools", self.known_tools, chosen=step.tools or ())
        more = {key: value for key, value in agent.items() if key not in ("type", "role")}
        self.initial = {
            **self.initial,
            "agent_type": agent.get("type") or "prompt",
            "agent_role": agent.get("role"),
            "agent_more": more or None,
        }

    def _offer_agents(self, agent: Any) -> None:
        current = IN_PLACE if is_described(agent) else _source_of(agent)
        is_new = self.instance._state.adding
        self.fields["agent_source"] = choice_field(
            {IN_PLACE: "Described here", **self.agents},
            current=current,
            label="Agent",
            empty="None (see other settings)",
        )
        self.initial["agent_source"] = current or (IN_PLACE if is_new else "")

    def clean_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = self.cleaned_data["settings"] or {}
        _refuse_own_fields(settings, {*self.fields, "agent"} - {"settings"})
        return settings

    def clean_agent_more(self) -> dict[str, Any]:
        more: dict[str, Any] = self.cleaned_data["agent_more"] or {}
        _refuse_own_fields(more, {"type", "role"})
        return more

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        keep_untouched(self)
        source = cleaned.get("agent_source")
        if source == IN_PLACE:
            self._clean_agent_in_place(cleaned)
        elif source != _source_of(self.instance.agent):
            self.instance.agent = _agent_from(source)
        return cleaned

    def _clean_agent_in_place(self, cleaned: Mapping[str, Any]) -> None:
        kind, role = str(cleaned.get("agent_type")), cleaned.get("agent_role")
        described = {"type": kind, **({"role": role} if role else {})}
        described |= cleaned.get("agent_more") or {}
        for name in described.keys() - FIELDS_OF_AGENT.get(kind, described.keys()):
            self.add_error("agent_more", f"`{name}` does not apply to type {kind}; remove it.")
        # The same agent keeps the order in which its author wrote it.
        if described != self.instance.agent:
            self.instance.agent = described


def is_described(agent: Any) -> bool:
    """Whether it is described in its step, rather than named."""
    return isinstance(agent, dict) and "capability" not in agent


def _source_of(agent: Any) -> str:
    if isinstance(agent, dict):
        return f"{ANY_FOR}{agent['capability']}" if "capability" in agent else IN_PLACE
    return agent or ""


def _agent_from(source: str | None) -> Any:
    if source and source.startswith(ANY_FOR):
        return {"capability": source.removeprefix(ANY_FOR)}
    return source or None


class StepFormSet(forms.BaseInlineFormSet):  # type: ignore[type-arg]
    """Checks what one form cannot see: names twice, needs that lead nowhere or round and round."""

    def clean(self) -> None:
        super().clean()
        # Taken out beforehand: `add_error` removes what it is about from the cleaned data.
        named = [(f.cleaned_data["name"], f) for f in self.forms if self._counts(f)]
        needs: dict[str, list[str]] = {}
        for name, form in named:
            if name in needs:
                form.add_error("name", f"Two steps are named {name}; rename one.")
            needs[name] = form.cleaned_data.get("needs") or []
        for name, form in named:
            for fault in _faults(name, form.cleaned_data.get("needs") or [], needs):
                form.add_error("needs", fault)
        self._check_cycle(dict(named), needs)

    def _counts(self, form: Any) -> bool:
        given = getattr(form, "cleaned_data", {})
        return "name" in given and not given.get("DELETE")

    def _check_cycle(self, forms: Mapping[str, Any], needs: Mapping[str, list[str]]) -> None:
        cycle = find_cycle(needs)
        # A step that needs itself is told so already.
        if cycle and len(cycle) > 2:
            message = f"Steps wait for each other: {' → '.join(cycle)}; remove one of these needs."
            forms[cycle[-1]].add_error("needs", message)

    def in_order(self) -> list[Any]:
        """The forms that stay, as the page shows them; those without a place come last."""
        kept = [form for form in self.forms if self._counts(form) and form.instance.name]
        last = len(kept) + 1_000_000
        return sorted(
            kept, key=lambda form: last if (p := form.cleaned_data.get("position")) is None else p
        )


def _faults(name: str, needs: list[str], known: Mapping[str, Any]) -> Iterator[str]:
    if name in needs:
        yield f"{name} cannot need itself."
    for need in needs:
        if need not in known:
            yield f"There is no step {need}."


def keep_untouched(form: Any) -> None:
    """Give fields that nobody touched their stored value again, be it empty or oddly ordered."""
    for name in form.cleaned_data.keys() - set(form.changed_data):
        if isinstance(form.fields[name], PlainTextField | JsonField | OpenChoiceField):
            form.cleaned_data[name] = getattr(form.instance, name, form.cleaned_data[name])


def step_form(workflow: Workflow | None) -> type[StepForm]:
    """The form of a step, with what this tenant and this workflow have on offer."""
    agents = {
        slug: f"{name} ({slug}, {kind})"
        for slug, name, kind in Agent.objects.values_list("slug", "name", "type")
    }
    able = {
        f"{ANY_FOR}{name}": f"Any agent for {name}, the least busy"
        for name in tenant_catalog().capabilities
    }
    siblings = workflow.steps.values_list("name", flat=True) if workflow else ()
    offers = {
        "agents": {**agents, **able},
        "models": known_models(),
        "known_tools": tool_names(),
        "siblings": tuple(siblings),
    }
    return type("StepForm", (StepForm,), offers)


def _refuse_own_fields(settings: Mapping[str, Any], own: set[str]) -> None:
    doubled = sorted(settings.keys() & own)
    if doubled:
        raise ValidationError(f"{', '.join(doubled)}: this has a field of its own above.")
