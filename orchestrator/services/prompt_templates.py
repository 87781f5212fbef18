"""Keeping prompt templates, and rendering them for an objective."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from django.conf import settings

from agents_app.core import observations
from agents_app.core.prompt_templates import TemplateSet
from agents_app.core.roles import Role
from agents_app.core.values import as_text
from agents_app.models import PromptTemplate
from orchestrator.core import template
from orchestrator.core.errors import OrchestratorError, TemplateSyntaxError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.problems import Problem, did_you_mean, pointer
from tenants.services.errors import AlreadyExistsError

MAX_TEXT: Final = 20_000
MAX_RENDERED_BYTES: Final = 200_000
# What a task may refer to, all of them texts.
VARIABLES: Final = ("objective", "tools", "agents")


class PromptTemplateInvalidError(OrchestratorError):
    """A template that cannot be rendered; all problems are listed."""

    code: ClassVar[str] = "prompt_template_invalid"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(str(problem) for problem in self.problems)


@dataclass(frozen=True, slots=True)
class RenderedTemplate:
    system: str
    task: str


def render(
    template_set: TemplateSet, *, objective: str, variables: Mapping[str, Json] | None = None
) -> RenderedTemplate:
    """What a model is told of an objective.

    The objective cannot end the marks that a task puts around it; variables that are not given are
    empty. Raises MissingVariableError, which names what was never one, and TemplateTooLargeError.
    """
    given = {**dict.fromkeys(VARIABLES), **(variables or {})}
    context = {**given, "objective": observations.harmless(objective)}
    task = template.render(
        template_set.task, context, max_bytes=MAX_RENDERED_BYTES, shown=_empty_if_missing
    )
    return RenderedTemplate(system=template_set.system, task=as_text(task))


def _empty_if_missing(_: template.Path, value: Json) -> Json:
    return "" if value is None else value


def create_prompt_template(**fields: Any) -> PromptTemplate:
    row = PromptTemplate(**fields)
    _refuse_taken(row.name)
    _refuse_nonsense(row)
    row.save(force_insert=True)
    return row


def change_prompt_template(row: PromptTemplate, **changes: Any) -> PromptTemplate:
    if changes.get("name", row.name) != row.name:
        _refuse_taken(changes["name"])
    for field, value in changes.items():
        setattr(row, field, value)
    _refuse_nonsense(row)
    row.save(update_fields=[*changes, "updated_at"])
    return row


def delete_prompt_template(row: PromptTemplate) -> None:
    row.delete()


def prompt_template_problems(row: PromptTemplate) -> list[Problem]:
    """Everything that is wrong with it, at its fields."""
    return [*_text_problems(row), *_task_problems(row.task), *_model_problems(row.models)]


def _refuse_nonsense(row: PromptTemplate) -> None:
    problems = prompt_template_problems(row)
    if problems:
        raise PromptTemplateInvalidError(tuple(problems))


def _refuse_taken(name: str) -> None:
    if PromptTemplate.objects.filter(name=name).exists():
        raise AlreadyExistsError("prompt template", name, "/name")


def _text_problems(row: PromptTemplate) -> Iterator[Problem]:
    for field, text in (("system", row.system), ("task", row.task)):
        if len(text) > MAX_TEXT:
            message = f"At most {MAX_TEXT:,} characters"
            yield Problem(pointer(field), "too_long", message)
    if "${" in row.system:
        message = "Variables are not allowed in the system message; put them into the task"
        yield Problem("/system", "variable_not_allowed", message)


def _task_problems(task: str) -> Iterator[Problem]:
    try:
        parsed = template.parse(task)
    except TemplateSyntaxError as error:
        yield Problem("/task", error.code, str(error))
        return
    paths = [path for expression in parsed.expressions for path in expression.paths]
    named = {str(path) for path in paths}
    for unknown in sorted(named - {*VARIABLES}):
        message = f"There is no variable `{unknown}`{did_you_mean(unknown, VARIABLES)}"
        yield Problem("/task", "unknown_variable", message)
    if "objective" not in named:
        yield Problem("/task", "required", "Say where the objective stands: ${objective}")


def _model_problems(chosen: Any) -> Iterator[Problem]:
    if not isinstance(chosen, dict):
        yield Problem("/models", "wrong_type", "Write an object with roles as its keys")
        return
    for role, choice in chosen.items():
        at = pointer("models", role)
        if role not in {*Role}:
            message = f"There is no role `{role}`; there are {', '.join(Role)}"
            yield Problem(at, "unknown_role", message)
        elif not _is_choice(choice):
            message = "Write {provider: NAME, model: NAME}, with a provider that there is"
            yield Problem(at, "invalid", message)


def _is_choice(choice: object) -> bool:
    if not isinstance(choice, dict) or choice.keys() != {"provider", "model"}:
        return False
    provider, model = choice["provider"], choice["model"]
    if not isinstance(provider, str) or not isinstance(model, str):
        return False
    return provider in settings.MUSTER_PROVIDERS and 0 < len(model) <= 200
