"""A workflow leaves one tenant as a file, and is the same in another."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestrator.core.builder import Workflow
from orchestrator.core.parsing import spec_from_mapping, spec_to_mapping
from orchestrator.core.yaml_io import load_text
from orchestrator.embedded import commands
from orchestrator.embedded.demo import TOPIC, WORKFLOW, DemoTenant, directions
from orchestrator.embedded.model import answers
from orchestrator.embedded.ports import LOOPBACK, free_port
from tests.e2e.programs import api, finished, made, manage, serving, spawn
from tests.world import World

# Under the name that the demo's line calls.
YAML = """\
# Comments belong to the author's file alone.
muster: 1
name: research-report
description: "Größe: 30 % mehr - on, no, 1:30"
module: research
strategy: levels
max_parallel: 3
failure: {mode: partial, max_failed_ratio: 0.25}
inputs:
  type: object
  required: [topic]
  properties:
    topic: {type: string, maxLength: 200}
    unit: {type: string, enum: ["on", "no", "1:30"], default: "on"}
defaults: {provider: simulated, model: sim, timeout: 45s, parameters: {seed: 7}}
steps:
  zeta:
    agent: {type: prompt, role: planner}
    system: |
      Be brief.

        Indented, and ends with a blank line.

    prompt: "Outline ${input.topic} in ${input.unit ?? 'on'} for $${5}"
    parameters: {temperature: 0.2, max_output_tokens: 12}
  facts:
    needs: [zeta]
    agent: {type: prompt, role: executor}
    prompt: "Facts about ${steps.zeta.output}"
    priority: 9
  quotes:
    needs: [zeta]
    agent: {type: tool, tool: echo}
    arguments: {value: {from: "${steps.zeta.output}", "1:30": [1, 2.5, true, null, "no"]}}
  report:
    needs: [quotes, facts]
    agent: {type: aggregator, mode: collect}
output:
  text: "${steps.facts.output}"
  all: "${steps.report.output}"
"""

pytestmark = pytest.mark.usefixtures("cluster")


def in_python() -> Workflow:
    """The same workflow, written with the builder."""
    with Workflow(
        WORKFLOW,
        description="Größe: 30 % mehr - on, no, 1:30",
        module="research",
        strategy="levels",
        max_parallel=3,
        failure={"mode": "partial", "max_failed_ratio": 0.25},
        inputs={
            "type": "object",
            "required": ["topic"],
            "properties": {
                "topic": {"type": "string", "maxLength": 200},
                "unit": {"type": "string", "enum": ["on", "no", "1:30"], "default": "on"},
            },
        },
        defaults={
            "provider": "simulated",
            "model": "sim",
            "timeout": "45s",
            "parameters": {"seed": 7},
        },
    ) as w:
        zeta = w.step(
            "zeta",
            agent={"type": "prompt", "role": "planner"},
            system="Be brief.\n\n  Indented, and ends with a blank line.\n",
            prompt=f"Outline {w.input.topic} in ${{input.unit ?? 'on'}} for $${{5}}",
            parameters={"temperature": 0.2, "max_output_tokens": 12},
        )
        facts = w.step(
            "facts",
            agent={"type": "prompt", "role": "executor"},
            prompt=f"Facts about {zeta}",
            priority=9,
        )
        quotes = w.step(
            "quotes",
            agent={"type": "tool", "tool": "echo"},
            arguments={"value": {"from": zeta, "1:30": [1, 2.5, True, None, "no"]}},
        )
        report = w.step("report", agent={"type": "aggregator", "mode": "collect"})
        zeta >> [facts, quotes]
        [quotes, facts] >> report
        w.output({"text": facts, "all": report})
    return w


@dataclass(frozen=True, slots=True, kw_only=True)
class Developer:
    """Somebody with a key of this tenant."""

    world: World
    key: str
    client: httpx2.Client

    def publish(self, file: str) -> str:
        """The id of the workflow that is made from this file."""
        kind = {"Content-Type": "application/yaml"}
        draft = made(self.client.post("workflows", content=file.encode(), headers=kind))
        workflow: str = draft["id"]
        made(self.client.post(f"workflows/{workflow}/publish"))
        return workflow

    def exported(self, workflow: str) -> str:
        answer = self.client.get(f"workflows/{workflow}", headers={"Accept": "application/yaml"})
        assert answer.is_success, answer.text
        return answer.text

    def exported_by_command(self) -> str:
        place = ("--tenant", self.world.tenant.slug, "--project", self.world.project.slug)
        return manage("workflow", "export", WORKFLOW, *place)

    def shape(self, workflow: str) -> dict[str, Any]:
        """Everything by which people and programs would tell two workflows apart."""
        return {
            "spec": made(self.client.get(f"workflows/{workflow}"))["spec"],
            "version": made(self.client.get(f"workflows/{workflow}/versions/1"))["spec"],
            "plan": made(self.client.get(f"workflows/{workflow}/plan")),
            "mermaid": self.client.get(f"workflows/{workflow}/mermaid").raise_for_status().text,
        }

    def run(self) -> dict[str, Any]:
        body = {"workflow": WORKFLOW, "input": {"topic": TOPIC}}
        return finished(self.client, made(self.client.post("runs", json=body))["id"])

    def run_by_curl(self, site: str) -> dict[str, Any]:
        """As the demo tells a newcomer to do it, word by word."""
        demo = DemoTenant(
            tenant=self.world.tenant.slug,
            project=self.world.project.slug,
            admin_user="",
            admin_password="",
            api_key=self.key,
        )
        addresses = {"api": f"{site}/api/v1/", "docs": "", "admin": "", "flower": ""}
        told = directions(demo, addresses=addresses, flower_login="")
        line = re.search(r"^curl (?:.*\\\n)*.*$", told, re.MULTILINE)
        assert line is not None
        done = subprocess.run(["sh", "-c", line[0]], capture_output=True, text=True, check=True)
        return finished(self.client, json.loads(done.stdout)["id"])


@pytest.fixture(scope="module")
def site(django_db_setup: None, log_dir: Path) -> Iterator[str]:
    port = free_port()
    web = spawn(
        commands.web("--host", LOOPBACK, "--port", str(port)),
        log=log_dir / "web.log",
        environment=os.environ,
    )
    address = f"http://{LOOPBACK}:{port}"
    with serving(web, lambda: answers(f"{address}/health")):
        yield address


@pytest.fixture
def curl() -> None:
    if shutil.which("curl") is None:
        missing = "curl is not installed; `apt-get install curl` brings it."
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)


@contextmanager
def developer_of(world: World, site: str) -> Iterator[Developer]:
    key = world.key()
    with api(site, key) as client:
        yield Developer(world=world, key=key, client=client)


@pytest.fixture
def at_acme(acme: World, site: str) -> Iterator[Developer]:
    with developer_of(acme, site) as developer:
        yield developer


@pytest.fixture
def at_globex(globex: World, site: str) -> Iterator[Developer]:
    with developer_of(globex, site) as developer:
        yield developer


def test_workflow_is_the_same_in_another_tenant(at_acme: Developer, at_globex: Developer) -> None:
    original = at_acme.publish(YAML)
    file = at_acme.exported(original)

    copy = at_globex.publish(file)

    assert at_globex.shape(copy) == at_acme.shape(original)
    assert at_globex.exported(copy) == at_acme.exported_by_command() == file


@pytest.mark.usefixtures("curl")
def test_copy_called_by_curl_gives_what_the_original_gives(
    at_acme: Developer, at_globex: Developer, site: str
) -> None:
    at_globex.publish(at_acme.exported(at_acme.publish(YAML)))

    original, copy = at_acme.run(), at_globex.run_by_curl(site)

    assert (original["status"], copy["status"]) == ("completed", "completed")
    assert copy["output"] == original["output"]
    assert len(original["output"]["text"]) > 10


def test_strangers_key_sees_nothing_of_the_copy(at_acme: Developer, at_globex: Developer) -> None:
    workflow = at_globex.publish(YAML)
    run = at_globex.run()["id"]
    paths = [f"workflows/{workflow}", f"runs/{run}", f"runs/{run}/events", f"runs/{run}/output"]

    by_owner = {path: at_globex.client.get(path).status_code for path in paths}
    by_stranger = {path: at_acme.client.get(path).status_code for path in paths}

    assert by_owner == dict.fromkeys(paths, 200)
    assert by_stranger == dict.fromkeys(paths, 404)


def test_builder_writes_what_the_file_says(at_acme: Developer) -> None:
    published = at_acme.shape(at_acme.publish(YAML))["version"]

    assert in_python().spec == spec_from_mapping(load_text(YAML))
    assert spec_to_mapping(in_python().spec) == published
