"""Workflows taken out with all that they need, and put in elsewhere."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse

from agents_app.models import Agent
from agents_app.services.agents import change_agent, create_agent
from orchestrator.core.errors import BundleInvalidError
from orchestrator.core.yaml_io import dump_text, load_text
from orchestrator.execution import engine_db
from orchestrator.models import Workflow, WorkflowVersion
from orchestrator.services.bundle_export import export_bundle
from orchestrator.services.bundles import install_bundle
from orchestrator.services.drafts import draft_spec, save_draft
from orchestrator.services.runs import start_run
from orchestrator.services.workflows import publish_spec
from tests.engine_driver import drain_all
from tests.eventually import eventually
from tests.rest import get, made, post, problems
from tests.world import World

MODEL = {"provider": "simulated", "model": "sim"}
WRITER = {
    "slug": "writer",
    "type": "prompt",
    "prompt": "Write.",
    "capabilities": ["prose"],
    **MODEL,
}


def check(text: str) -> dict[str, Any]:
    return {
        "muster": 1,
        "name": "check",
        "steps": {"look": {"agent": "writer", "parameters": {"text": text}}},
    }


def steps(name: str, **described: dict[str, Any]) -> dict[str, Any]:
    return {"muster": 1, "name": name, "steps": described}


def report() -> dict[str, Any]:
    """It calls two versions of another workflow, one of them in a loop."""
    loop = {"steps": {"again": {"workflow": "check@1"}}, "until": "true", "max_rounds": 1}
    return {
        "muster": 1,
        "name": "report",
        "strategy": "adaptive",
        "steps": {
            "judge": {"agent": {"type": "evaluator", **MODEL, "threshold": 0.5}, "prompt": "?"},
            "old": {"loop": loop},
            "new": {"workflow": "check", "needs": ["old"]},
        },
        "output": "${steps.new.output}",
    }


def taken_out(world: World) -> dict[str, Any]:
    with world.scope():
        create_agent(**WRITER, settings={"repairs": 1}, tools=[])
        for text in ("one", "two"):
            publish_spec(project=world.project, spec=check(text))
        version = publish_spec(project=world.project, spec=report())
        # Through a file, as others get it.
        return load_text(dump_text(export_bundle(version.workflow)))


def put_in(world: World, bundle: dict[str, Any], **how: Any) -> Any:
    with world.scope():
        return install_bundle(bundle, project=world.project, and_publish=True, **how)


def output_of(world: World, version: WorkflowVersion) -> Any:
    with world.scope():
        run = start_run(workflow=version.workflow, version=version, input={})
    return drain_all(world, run.id).output


def test_bundle_holds_all_that_a_workflow_names(acme: World) -> None:
    bundle = taken_out(acme)

    assert [(each["spec"]["name"], each.get("version")) for each in bundle["workflows"]] == [
        ("check", 1),
        ("check", 2),
        ("report", None),
    ]
    assert bundle["agents"]["writer"]["repairs"] == 1
    assert "id" not in bundle["agents"]["writer"]


def test_bundle_runs_in_another_tenant(acme: World, globex: World) -> None:
    bundle = taken_out(acme)

    installed = put_in(globex, bundle)

    assert output_of(globex, installed.version) == "two"
    with globex.scope():
        assert Agent.objects.get().slug == "writer"
        assert WorkflowVersion.objects.filter(workflow__name="check").count() == 2


def bossy(world: World) -> dict[str, Any]:
    """A bundle with the second version of `check` alone, which a saved agent may start."""
    taken_out(world)
    with world.scope():
        asking = {"delegates": ["writer"], "workflows": ["check@2"]}
        create_agent(slug="boss", type="react", prompt="Ask.", settings=asking, **MODEL)
        spec = steps("ask", a={"agent": "boss"}, b={"workflow": "check@2"})
        publish_spec(project=world.project, spec=spec)
        spec = steps("all", a={"workflow": "ask@1"}, b={"agent": "boss"})
        return export_bundle(publish_spec(project=world.project, spec=spec).workflow)


def test_agents_bring_those_that_they_may_ask_and_the_workflows_that_they_may_start(
    acme: World, globex: World
) -> None:
    bundle = bossy(acme)

    installed = put_in(globex, bundle)

    assert installed.agents == {"boss": "boss", "writer": "writer"}
    with globex.scope():
        # It has number 1 where it comes to, for whoever took the agent in too.
        assert Agent.objects.get(slug="boss").settings["workflows"] == ["check@1"]
        asked = WorkflowVersion.objects.get(workflow__name="ask").plan["steps"][0]
        assert asked["config"]["workflows"] == ["check@1"]


def kept(world: World) -> Any:
    """When each agent was changed last, the drafts, and which versions there are."""
    with world.scope():
        agents = {*Agent.objects.values_list("slug", "updated_at")}
        drafts = {each.name: draft_spec(each) for each in Workflow.objects.all()}
        return agents, drafts, {*WorkflowVersion.objects.values_list("workflow__name", "number")}


@pytest.mark.parametrize("taken", [taken_out, bossy])
@pytest.mark.parametrize("on_conflict", ["refuse", "rename", "replace"])
def test_same_bundle_twice_changes_nothing(
    acme: World, globex: World, taken: Callable[[World], Any], on_conflict: str
) -> None:
    bundle = taken(acme)
    first = put_in(globex, bundle)
    before = kept(globex)

    second = put_in(globex, bundle, on_conflict=on_conflict)

    assert (second.version, second.agents) == (first.version, first.agents)
    assert kept(globex) == before


def test_what_people_write_by_hand_is_the_same_the_second_time(acme: World) -> None:
    writer = {"type": "prompt", "prompt": "Write.", **MODEL}
    spec = {**steps("alone"), "steps": [{"name": "a", "agent": "writer"}]}
    bundle = {"muster_bundle": 1, "agents": {"writer": writer}, "workflows": [{"spec": spec}]}
    first = put_in(acme, bundle)

    assert put_in(acme, bundle).version == first.version


def test_draft_of_a_workflow_that_is_called_is_free_to_change(acme: World, globex: World) -> None:
    bundle = taken_out(acme)
    first = put_in(globex, bundle)
    with globex.scope():
        draft = Workflow.objects.get(name="check")
        save_draft(project=globex.project, spec=check("mine"), workflow=draft)

    assert put_in(globex, bundle).version == first.version
    with globex.scope():
        assert draft_spec(draft) == check("mine")


def test_version_that_is_there_is_called_though_a_later_one_is_current(
    acme: World, globex: World
) -> None:
    with globex.scope():
        create_agent(**WRITER, settings={"repairs": 1}, tools=[])
        for text in ("two", "mine"):
            publish_spec(project=globex.project, spec=check(text))
    bundle = taken_out(acme)
    # Of the version before it there is none here, so that it alone is current no more.
    del bundle["workflows"][0], bundle["workflows"][1]["spec"]["steps"]["old"]
    del bundle["workflows"][1]["spec"]["steps"]["new"]["needs"]

    installed = put_in(globex, bundle)

    assert output_of(globex, installed.version) == "two"
    with globex.scope():
        assert draft_spec(installed.workflow)["steps"]["new"]["workflow"] == "check@1"
        assert Workflow.objects.get(name="check").current_version.number == 2


def test_references_mean_elsewhere_what_they_meant_whatever_the_order(
    acme: World, globex: World
) -> None:
    taken_out(acme)
    with acme.scope():
        publish_spec(project=acme.project, spec=check("three"))
        publish_spec(project=acme.project, spec=steps("mid", a={"workflow": "check"}))
        # `mid` brings the third version before the second is named.
        spec = steps(
            "top", a={"workflow": "mid"}, b={"workflow": "check@2"}, c={"workflow": "check"}
        )
        spec["output"] = ["${steps.a.output}", "${steps.b.output}", "${steps.c.output}"]
        workflow = publish_spec(project=acme.project, spec=spec).workflow
        asking = {"type": "react", "prompt": "?", "workflows": ["check"], **MODEL}
        asks = publish_spec(project=acme.project, spec=steps("asks", a={"agent": asking}))
        publish_spec(project=acme.project, spec=check("four"))
        drafted, frozen = export_bundle(workflow), export_bundle(workflow, workflow.current_version)
        started = export_bundle(asks.workflow, asks)

    assert output_of(globex, put_in(globex, frozen).version)[1:] == ["two", "three"]
    assert drafted["workflows"][-1]["spec"]["steps"]["c"]["workflow"] == "check"
    assert started["workflows"][-1]["spec"]["steps"]["a"]["agent"]["workflows"] == ["check"]
    draft = put_in(globex, drafted, on_conflict="replace")
    assert output_of(globex, draft.version)[1:] == ["two", "four"]


def occupied(world: World) -> None:
    """Another agent and another workflow have the names."""
    with world.scope():
        agent = create_agent(**{**WRITER, "prompt": "Paint."})
        change_agent(agent, description="Mine.")
        mine = {"muster": 1, "name": "report", "steps": {"wait": {"delay": "1s"}}}
        publish_spec(project=world.project, spec=mine)


def test_names_that_are_taken_are_told_all_at_once(acme: World, globex: World) -> None:
    bundle = taken_out(acme)
    occupied(globex)

    with pytest.raises(BundleInvalidError) as caught:
        put_in(globex, bundle)

    assert [each.loc for each in caught.value.problems] == ["/agents/writer", "/workflows"]
    with globex.scope():
        assert Agent.objects.get().prompt == "Paint."
        assert not Workflow.objects.filter(name="check").exists()


def test_name_that_somebody_takes_at_this_very_moment_is_told(acme: World, globex: World) -> None:
    bundle = taken_out(acme)

    def install() -> None:
        try:
            put_in(globex, bundle)
        finally:
            connection.close()

    def waits() -> bool:
        row = engine_db.one("SELECT count(*) AS n FROM pg_locks WHERE NOT granted", alias="system")
        return bool(row and row["n"])

    with ThreadPoolExecutor(1) as other:
        with globex.scope():
            create_agent(**WRITER)
            installing = other.submit(install)
            eventually(waits)
        with pytest.raises(BundleInvalidError, match="at this very moment"):
            installing.result()
    with globex.scope():
        assert not Workflow.objects.exists()


def test_what_comes_may_get_other_names(acme: World, globex: World) -> None:
    bundle = taken_out(acme)
    occupied(globex)

    installed = put_in(globex, bundle, on_conflict="rename")

    assert installed.agents == {"writer": "writer-2"}
    assert installed.workflows == {"check": "check", "report": "report-2"}
    assert output_of(globex, installed.version) == "two"
    with globex.scope():
        assert Agent.objects.get(slug="writer").prompt == "Paint."


def test_workflow_that_is_the_same_keeps_its_agent_where_what_comes_gets_other_names(
    acme: World, globex: World
) -> None:
    bundle = taken_out(acme)
    with globex.scope():
        create_agent(**{**WRITER, "prompt": "Paint."})
        publish_spec(project=globex.project, spec=check("two"))

    installed = put_in(globex, bundle, on_conflict="rename")

    assert installed.workflows == {"check": "check-2", "report": "report"}
    with globex.scope():
        assert draft_spec(Workflow.objects.get(name="check")) == check("two")


def test_what_is_there_may_be_replaced(acme: World, globex: World) -> None:
    bundle = taken_out(acme)
    occupied(globex)

    installed = put_in(globex, bundle, on_conflict="replace")

    assert (installed.version.workflow.name, installed.version.number) == ("report", 2)
    with globex.scope():
        writer = Agent.objects.get()
        assert (writer.prompt, writer.description) == ("Write.", "")


def broken(bundle: dict[str, Any]) -> dict[str, Any]:
    bundle["agents"]["writer"]["tools"] = ["shell"]
    bundle["agents"]["No Slug"] = {"type": "prompt"}
    bundle["workflows"][0]["spec"]["steps"]["look"]["agent"] = "nobody"
    bundle["workflows"][2]["spec"]["steps"]["new"]["workflow"] = "check@7"
    return bundle


def test_all_that_is_wrong_is_told_and_nothing_is_installed(acme: World, globex: World) -> None:
    bundle = broken(taken_out(acme))

    answer = post(globex.client(), "workflows/install", bundle)

    assert answer.status_code == 400
    assert {
        ("/agents/writer/tools", "not_applicable"),
        ("/agents/No Slug", "invalid_name"),
        ("/workflows/0/spec/steps/look/agent", "unknown_agent"),
        ("/workflows/2/spec/steps/new/workflow", "unknown_workflow"),
    } <= problems(answer)
    with globex.scope():
        assert not Agent.objects.exists()
        assert not Workflow.objects.exists()


@pytest.mark.parametrize(
    ("document", "loc"),
    [
        ({}, "/muster_bundle"),
        ({"muster_bundle": 2, "workflows": []}, "/muster_bundle"),
        ({"muster_bundle": 1, "workflows": []}, "/workflows"),
        ({"muster_bundle": 1, "workflows": [3]}, "/workflows/0"),
        ({"muster_bundle": 1, "workflows": [{"spec": {"name": 3}}]}, "/workflows/0/spec/steps"),
        ({"muster_bundle": 1, "workflows": [{"spec": {}, "version": 0}]}, "/workflows/0/version"),
        ({"muster_bundle": 1, "workflows": [{"spec": {}}], "agents": [1]}, "/agents"),
        ({"muster_bundle": 1, "workflows": [{"spec": {}}], "agents": {"a": 1}}, "/agents"),
        ({"muster_bundle": 1, "workflows": [{"spec": {}}], "more": 1}, "/more"),
    ],
)
def test_document_that_is_no_bundle_is_refused(
    acme: World, document: dict[str, Any], loc: str
) -> None:
    answer = post(acme.client(), "workflows/install", document)

    assert answer.status_code == 400
    assert loc in {place for place, _ in problems(answer)}


def test_agent_that_is_gone_is_told_when_a_workflow_is_taken_out(acme: World) -> None:
    taken_out(acme)
    with acme.scope():
        Agent.objects.all().delete()
        workflow = Workflow.objects.get(name="report")

    answer = get(acme.client(), f"workflows/{workflow.id}/bundle")

    assert problems(answer) == {("/steps", "unknown_agent")}


def test_api_takes_out_and_puts_in(acme: World, globex: World) -> None:
    taken_out(acme)
    with acme.scope():
        workflow = Workflow.objects.get(name="report")
    out = get(acme.client(), f"workflows/{workflow.id}/bundle?version=1", accept="application/yaml")

    told = made(post(globex.client(), "workflows/install?publish=true", out.content.decode()))

    assert (told["version"], told["agents"]) == (1, {"writer": "writer"})
    assert get(globex.client(), f"workflows/{workflow.id}/bundle").status_code == 404


def test_key_of_one_project_installs_nothing_for_all(acme: World, globex: World) -> None:
    bundle = taken_out(acme)
    with globex.scope():
        key = globex.key("workflows:write", project=globex.project)

    answer = post(globex.client(), "workflows/install", bundle, authorization=f"Bearer {key}")

    assert answer.status_code == 403


def test_commands_take_out_and_put_in(acme: World, globex: World, tmp_path: Path) -> None:
    taken_out(acme)
    out, file = StringIO(), tmp_path / "report.yaml"
    tenants = {name: world.tenant.slug for name, world in (("a", acme), ("g", globex))}
    call_command("workflow", "export", "report", "--bundle", "--tenant", tenants["a"], stdout=out)
    file.write_text(out.getvalue())

    call_command(
        "workflow", "install", str(file), "--publish", "--tenant", tenants["g"], stdout=out
    )

    assert "Installed report, published version 1." in out.getvalue()
    file.write_text(file.read_text().replace("Write.", "Paint."))
    with pytest.raises(CommandError, match="another agent `writer`"):
        call_command("workflow", "install", str(file), "--tenant", tenants["g"], stdout=out)


def test_pages_take_out_and_put_in(acme: World, globex: World) -> None:
    taken_out(acme)
    with acme.scope():
        workflow = Workflow.objects.get(name="report")
    out = acme.browser().get(reverse("admin:orchestrator_workflow_bundle", args=[workflow.id]))

    globex.browser().post(
        reverse("admin:orchestrator_workflow_load"),
        {
            "project": globex.project.id,
            "file": SimpleUploadedFile("report.yaml", out.content),
            "on_conflict": "refuse",
        },
    )

    with globex.scope():
        assert Workflow.objects.filter(name="report").exists()
        assert Agent.objects.get().slug == "writer"


def test_capabilities_of_agents_go_along(acme: World, globex: World) -> None:
    taken = taken_out(acme)

    with globex.scope():
        install_bundle(taken, project=globex.project)
        again = install_bundle(taken, project=globex.project)
        agent = Agent.objects.get()
    assert (taken["agents"]["writer"]["capabilities"], agent.capabilities) == (["prose"], ["prose"])
    assert again.agents == {"writer": "writer"}


def test_capabilities_that_are_none_are_refused(globex: World, acme: World) -> None:
    taken = taken_out(acme)
    taken["agents"]["writer"]["capabilities"] = ["Two words"]

    with globex.scope(), pytest.raises(BundleInvalidError) as caught:
        install_bundle(taken, project=globex.project)

    assert [each.loc for each in caught.value.problems] == ["/agents/writer/capabilities"]
