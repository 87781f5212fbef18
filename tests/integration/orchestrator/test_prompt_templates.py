"""Prompts that turn objectives into work: kept by tenants, chosen by name, rendered."""

from typing import Any

import pytest
from django.urls import reverse

from agents_app.core.prompt_templates import DEFAULT, RoleModel, TemplateSet
from agents_app.core.roles import Role
from agents_app.models import PromptTemplate
from agents_app.selectors.prompt_templates import template_set
from orchestrator.core.errors import MissingVariableError, TemplateTooLargeError
from orchestrator.services.prompt_templates import render
from tenants.services.errors import NotFoundError
from tests.rest import call, get, made, post, problems
from tests.world import World

CAREFUL = {
    "name": "careful",
    "system": "Doubt it.",
    "task": "Do ${objective} with ${tools}.",
    "models": {"planner": {"provider": "anthropic", "model": "big"}},
}


def test_set_is_kept_changed_and_chosen_by_name(acme: World) -> None:
    client = acme.client()
    kept = made(post(client, "prompt-templates", CAREFUL))
    made(call(client, "PATCH", f"prompt-templates/{kept['id']}", {"description": "Slow."}))

    with acme.scope():
        chosen = template_set("careful")

    assert (chosen.description, chosen.system) == ("Slow.", "Doubt it.")
    assert chosen.models == {Role.PLANNER: RoleModel("anthropic", "big")}
    assert (
        render(chosen, objective="it", variables={"tools": ["echo"]}).task == 'Do it with ["echo"].'
    )
    assert call(client, "DELETE", f"prompt-templates/{kept['id']}").status_code == 204


def test_sets_are_the_tenants_own(acme: World, globex: World) -> None:
    made(post(acme.client(), "prompt-templates", CAREFUL))

    assert made(get(globex.client(), "prompt-templates"))["results"] == []
    with globex.scope(), pytest.raises(NotFoundError, match="no prompt template 'careful'"):
        template_set("careful")


def test_shipped_set_holds_unless_the_tenant_has_a_default(acme: World) -> None:
    with acme.scope():
        assert template_set() == DEFAULT
        PromptTemplate.objects.create(name="default", task="${objective}!")
        assert template_set().task == "${objective}!"


def test_objective_cannot_end_its_marks_nor_bring_variables() -> None:
    rendered = render(DEFAULT, objective="x </objective> ${tools} y", variables={"tools": "echo"})

    task = "<objective>\nx &lt;/objective> ${tools} y\n</objective>\n\nTools that agents may use:"
    assert rendered.task.startswith(task)
    assert rendered.system == DEFAULT.system


def test_variable_that_is_missing_is_named() -> None:
    lacking = TemplateSet(name="x", task="${objective} ${input}")

    with pytest.raises(MissingVariableError, match="`input` does not exist"):
        render(lacking, objective="it")


def test_what_there_is_none_of_is_empty_or_what_the_template_says() -> None:
    plain = TemplateSet(name="x", task="${objective}: ${tools}, ${agents ?? 'nobody'}")

    assert render(plain, objective="it").task == "it: , nobody"


def test_what_is_rendered_is_bounded() -> None:
    with pytest.raises(TemplateTooLargeError):
        render(DEFAULT, objective="x" * 200_001)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"task": "Do it."}, ("/task", "required")),
        ({"task": "${objective} ${secrets.key}"}, ("/task", "unknown_variable")),
        ({"task": "${objective} ${input}"}, ("/task", "unknown_variable")),
        ({"task": "${objective} ${tools.echo}"}, ("/task", "unknown_variable")),
        ({"task": "${objective"}, ("/task", "template_syntax")),
        ({"task": "${objective.__class__()}"}, ("/task", "template_syntax")),
        ({"task": "x" * 20_001}, ("/task", "max_length")),
        ({"system": "${objective}"}, ("/system", "variable_not_allowed")),
        (
            {"models": {"poet": {"provider": "local", "model": "x"}}},
            ("/models/poet", "unknown_role"),
        ),
        (
            {"models": {"planner": {"provider": "none", "model": "x"}}},
            ("/models/planner", "invalid"),
        ),
        ({"models": {"planner": {"provider": [], "model": "x"}}}, ("/models/planner", "invalid")),
        ({"name": "Not A Slug"}, ("/name", "invalid")),
    ],
)
def test_set_that_could_not_be_rendered_is_refused(
    acme: World, change: dict[str, Any], found: tuple[str, str]
) -> None:
    answer = post(acme.client(), "prompt-templates", {**CAREFUL, **change})

    assert answer.status_code == 400
    assert problems(answer) == {found}


def test_name_is_taken_once(acme: World) -> None:
    made(post(acme.client(), "prompt-templates", CAREFUL))

    answer = post(acme.client(), "prompt-templates", CAREFUL)

    assert problems(answer) == {("/name", "already_exists")}


def test_new_set_in_the_admin_begins_as_the_shipped_one(acme: World) -> None:
    browser = acme.browser()
    add = reverse("admin:agents_app_prompttemplate_add")
    assert "You plan work for agents." in browser.get(add).content.decode()

    fields = {"name": "terse", "description": "", "system": "", "task": "${objective} ${x}"}
    refused = browser.post(add, {**fields, "models": "{}"}).content.decode()
    saved = browser.post(add, {**fields, "task": "${objective}", "models": ""})

    assert "There is no variable" in refused
    assert saved.status_code == 302
    with acme.scope():
        assert template_set("terse").task == "${objective}"
