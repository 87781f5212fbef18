"""`make demo`: a tenant with a key, a first run on the local model, and where to look."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, fields

from orchestrator.embedded import commands
from orchestrator.embedded.errors import EmbeddedError

BLUEPRINT = "templates/workflows/research_report.yaml"
WORKFLOW = "research-report"
TOPIC = "How bees find their way home"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTenant:
    """What `manage.py demo_data` made, or found made."""

    tenant: str
    project: str
    admin_user: str
    admin_password: str
    api_key: str


def load_demo_tenant(environment: Mapping[str, str]) -> DemoTenant:
    done = subprocess.run(
        commands.manage("demo_data"),
        cwd=commands.REPOSITORY,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EmbeddedError(f"The demo tenant could not be made.\n{done.stdout}{done.stderr}")
    facts = json.loads(done.stdout.splitlines()[-1])
    return DemoTenant(**{field.name: facts[field.name] for field in fields(DemoTenant)})


def run_blueprint(demo: DemoTenant, *, environment: Mapping[str, str], as_json: bool) -> int:
    """Run the blueprint live in this terminal. 0 means that the run completed."""
    arguments = ["run", BLUEPRINT, "--tenant", demo.tenant, "--project", demo.project]
    arguments += ["--input", f"topic={TOPIC}"]
    if as_json:
        arguments.append("--json")
    done = subprocess.run(
        commands.manage(*arguments),
        cwd=commands.REPOSITORY,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode


def directions(demo: DemoTenant, *, addresses: Mapping[str, str], flower_login: str) -> str:
    """Where everything is, and a line that starts another run when pasted into a shell."""
    body = json.dumps({"workflow": WORKFLOW, "project": demo.project, "input": {"topic": TOPIC}})
    return f"""
  API      {addresses["api"]}
  Docs     {addresses["docs"]}
  Admin    {addresses["admin"]}  {demo.admin_user} / {demo.admin_password}
  Flower   {addresses["flower"]}  {flower_login.replace(":", " / ", 1)}

Start another run:

curl -sS {addresses["api"]}runs -H 'Authorization: Bearer {demo.api_key}' \\
  -H 'Content-Type: application/json' -d '{body}'

Everything runs until you press Ctrl-C.
"""
