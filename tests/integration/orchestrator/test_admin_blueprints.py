"""The gallery of blueprints: in the admin, over the API and from the command line."""

from io import StringIO
from threading import Thread
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.urls import reverse

from agents_app.models import Agent
from costs.models import TenantPrice
from orchestrator.models import Run, Workflow
from orchestrator.selectors.blueprints import blueprints
from orchestrator.services.drafts import draft_spec
from tests.factories import make_tenant
from tests.html_forms import form_data
from tests.rest import get, made, post, problems
from tests.world import World

SIMULATED = {"provider": "simulated", "model": "sim"}


def address(name: str) -> str:
    return reverse("admin:orchestrator_workflow_blueprint", args=[name])


def adopt(world: World, name: str, *, button: str = "_draft", **fields: str) -> Any:
    asked = {"project": str(world.project.id), "on_conflict": "refuse", **SIMULATED, **fields}
    return world.browser().post(address(name), {**asked, button: ""})


def workflows(world: World) -> list[str]:
    with world.scope():
        return sorted(Workflow.objects.values_list("name", flat=True))


# --- pages ---


def test_gallery_shows_all_of_them(acme: World) -> None:
    page = acme.browser().get(reverse("admin:orchestrator_workflow_blueprints"))

    text = page.content.decode()
    assert all(address(name) in text for name in blueprints())
    assert "approval, condition, evaluator, loop" in text


@pytest.mark.parametrize("name", sorted(blueprints()))
def test_page_shows_graph_price_notes_and_example(acme: World, name: str) -> None:
    page = acme.browser().get(address(name))

    text = page.content.decode()
    assert "flowchart TD" in text
    assert "Price of a run" in text
    assert "SmolLM2" in text
    assert workflows(acme) == []
    with acme.scope():
        assert not Agent.objects.exists()


def test_adopting_makes_a_draft_that_asks_the_chosen_model(acme: World) -> None:
    answer = adopt(acme, "market-brief")

    with acme.scope():
        workflow = Workflow.objects.get()
        assert draft_spec(workflow)["defaults"]["provider"] == "simulated"
        assert set(Agent.objects.values_list("slug", "provider")) == {
            ("scout", "simulated"),
            ("sceptic", "simulated"),
        }
    assert workflow.current_version is None
    assert answer["Location"].endswith(f"/{workflow.pk}/change/?check=1")


def test_adopted_blueprint_runs_from_a_form_that_is_filled_in(acme: World) -> None:
    browser = acme.browser()
    form = adopt(acme, "stock-reorder", button="_run")["Location"]

    started = browser.post(form, form_data(browser.get(form).content.decode(), "run_form"))

    assert started.status_code == 302, started.content.decode()
    with acme.scope():
        assert Run.objects.get().input == blueprints()["stock-reorder"].example


def test_name_that_is_taken_is_a_choice(acme: World) -> None:
    adopt(acme, "invoice-check")
    with acme.scope():
        Workflow.objects.update(description="Mine.")

    refused = adopt(acme, "invoice-check")
    assert refused.status_code == 200
    assert "There is another workflow" in refused.content.decode()
    assert workflows(acme) == ["invoice-check"]

    adopt(acme, "invoice-check", on_conflict="rename")
    assert workflows(acme) == ["invoice-check", "invoice-check-2"]

    adopt(acme, "invoice-check", on_conflict="replace")
    with acme.scope():
        told = Workflow.objects.get(name="invoice-check").description
    assert told == blueprints()["invoice-check"].description


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model": ""}, "Name the model"),
        ({"provider": ""}, "Say who has this model"),
        ({"provider": "nobody"}, "Select a valid choice"),
        ({"project": "01a1fdeb-2481-720d-9a41-1f446a2e4bdc"}, "Select a valid choice"),
        ({"on_conflict": "burn"}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_is_told_at_its_field(
    acme: World, fields: dict[str, str], told: str
) -> None:
    answer = adopt(acme, "invoice-check", **fields)

    assert told in answer.content.decode()
    assert workflows(acme) == []


def test_price_is_that_of_the_chosen_model(acme: World) -> None:
    with acme.scope():
        TenantPrice.objects.create(
            provider="simulated", model="*", valid_from="2020-01-01", input_usd=0, output_usd=1000
        )

    text = adopt(acme, "invoice-check", button="_price").content.decode()

    assert "simulated sim" in text
    assert "At worst" in text
    assert workflows(acme) == []


def test_project_of_a_stranger_is_no_choice(acme: World, globex: World) -> None:
    answer = adopt(acme, "invoice-check", project=str(globex.project.id))

    assert answer.status_code == 200
    assert workflows(acme) == workflows(globex) == []


def test_of_those_who_adopt_at_once_one_does_and_nobody_meets_an_error(acme: World) -> None:
    codes: list[int] = []

    def press() -> None:
        try:
            codes.append(adopt(acme, "release-notes").status_code)
            codes.append(acme.browser().get(address("release-notes")).status_code)
        finally:
            connections.close_all()

    threads = [Thread(target=press) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(codes) == 8
    assert set(codes) <= {200, 302}
    assert workflows(acme) == ["change-note", "release-notes"]


def test_viewer_looks_and_does_not_adopt(live_db: None) -> None:
    world = make_tenant("viewer", role="viewer")
    browser = world.browser()

    assert "Adopt it" not in browser.get(address("invoice-check")).content.decode()
    asked = {"project": str(world.project.id), "on_conflict": "refuse"}
    assert browser.post(address("invoice-check"), asked).status_code == 403
    assert workflows(world) == []


def test_blueprint_that_is_not_there_is_not_found(acme: World) -> None:
    assert acme.browser().get(address("nothing")).status_code == 404


def test_newcomers_are_led_to_the_gallery(acme: World) -> None:
    home = acme.browser().get(reverse("admin:index")).content.decode()

    assert reverse("admin:orchestrator_workflow_blueprints") in home


# --- API ---


def test_api_lists_and_shows(acme: World) -> None:
    listed = get(acme.client(), "blueprints").json()["results"]
    shown = get(acme.client(), "blueprints/invoice-check?provider=simulated&model=sim").json()

    assert {each["name"] for each in listed} == blueprints().keys()
    assert shown["price"]["worst_usd"] == "0"
    assert shown["example"] == blueprints()["invoice-check"].example
    assert shown["mermaid"].startswith("flowchart TD")
    assert shown["document"]["workflows"][0]["spec"]["defaults"]["model"] == "sim"


def test_api_adopts(acme: World) -> None:
    asked = {"publish": True, **SIMULATED}
    told = made(post(acme.client(), "blueprints/release-notes/adopt", asked))
    again = made(post(acme.client(), "blueprints/release-notes/adopt", asked))

    assert (told["workflow"]["name"], told["version"]) == ("release-notes", 1)
    assert (again["workflow"]["id"], again["version"]) == (told["workflow"]["id"], 1)
    assert workflows(acme) == ["change-note", "release-notes"]


def test_api_refuses_what_cannot_be(acme: World) -> None:
    client = acme.client()
    halfway = post(client, "blueprints/invoice-check/adopt", {"provider": "simulated"})
    unknown = post(client, "blueprints/invoice-check/adopt", {"provider": "nobody", "model": "x"})

    assert halfway.status_code == unknown.status_code == 400
    assert ("/workflows/0/spec/defaults/provider", "unknown_provider") in problems(unknown)
    assert get(client, "blueprints/nothing").status_code == 404
    assert workflows(acme) == []


def test_key_that_may_only_read_does_not_adopt(acme: World) -> None:
    reader = acme.client("workflows:read")

    assert get(reader, "blueprints").status_code == 200
    assert post(reader, "blueprints/invoice-check/adopt", SIMULATED).status_code == 403


# --- commands ---


def test_commands_list_and_adopt(acme: World) -> None:
    out = StringIO()
    call_command("workflow", "blueprints", stdout=out)
    place = ["--tenant", acme.tenant.slug, "--provider", "simulated", "--model", "sim"]
    call_command("workflow", "adopt", "market-brief", "--publish", *place, stdout=out)

    assert "invoice-check (finance): Recompute" in out.getvalue()
    assert "Installed market-brief, published version 1." in out.getvalue()
    with pytest.raises(CommandError, match="no blueprint 'nothing'"):
        call_command("workflow", "adopt", "nothing", *place)
    with pytest.raises(CommandError, match="together"):
        call_command("workflow", "adopt", "market-brief", *place[:4])
