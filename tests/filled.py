"""A tenant with one of everything, so that every address of the API leads somewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agents_app.core.memory import MemoryScope
from agents_app.models import Agent, McpServer, PromptTemplate
from agents_app.services.memory import teach
from costs.models import Budget, CostAlert, CostEntry
from orchestrator.models import AgentRun, Approval, RateLimit, Run, RunBatch
from tenants.kernel.models import uuid7
from tenants.models import ApiKey, AuditEntry, Credential, Membership
from tenants.services.credentials import create_credential
from tests.rest import published, started
from tests.world import World

PREFIX = "api/v1/"


def collection_of(path: str) -> str:
    return path.partition("/<")[0]


@dataclass(frozen=True, slots=True)
class Filled:
    """A tenant with one of everything."""

    world: World
    ids: dict[str, str]

    def address(self, path: str) -> str:
        """A path of the URL configuration with this tenant's own things in it."""
        address, *inner = path.split("<")
        for part in inner:
            parameter, _, rest = part.partition(">")
            address += self.value(collection_of(path), parameter) + rest
        return "/" + PREFIX + address

    def value(self, collection: str, parameter: str) -> str:
        return PARAMETERS[parameter](self, collection)


_NAMES = {
    "blueprints": "invoice-check",
    "tools": "echo",
    "providers": "simulated",
    "workflow-tools": "greet",
    "agents/types": "prompt",
}
PARAMETERS: dict[str, Callable[[Filled, str], str]] = {
    "uuid:id": lambda filled, collection: filled.ids[collection],
    "int:number": lambda filled, collection: "1",
    "path:model": lambda filled, collection: "vendor/model",
    "str:name": lambda filled, collection: _NAMES[collection],
}


def fill(acme: World) -> Filled:
    workflow = published(acme)
    run = Run.objects.db_manager("system").get(id=started(acme)["id"])
    _finish(run)
    with acme.scope():
        agent = Agent.objects.create(slug="writer", name="Writer", capabilities=["only-here"])
        entry = _charge(run)
        limit = RateLimit.objects.create(scope="tenant", unit="requests", period="day", limit=9)
        memory = teach(scope=MemoryScope.TENANT, kind="note", content={"note": "x"})
        ids = {
            "agents": agent.id,
            "capabilities": "only-here",
            "memory": memory.id,
            "memory/export": memory.id,
            "api-keys": ApiKey.objects.first().id,
            "approvals": asked(run).id,
            "audit": AuditEntry.objects.filter(tenant=acme.tenant).first().id,
            "budgets": _budget().id,
            "costs/alerts": _alert().id,
            "costs/entries": entry.id,
            "call-settings": acme.tenant.id,
            "credentials": credential().id,
            "costs/forecast": acme.tenant.id,
            "costs/summary": acme.tenant.id,
            "mcp-servers": McpServer.objects.create(name="files", url="https://mcp.invalid").id,
            "members": Membership.objects.get().id,
            "prompt-templates": PromptTemplate.objects.create(name="terse", task="${objective}").id,
            "projects": acme.project.id,
            "rate-limits": limit.id,
            "rate-limits/usage": limit.id,
            "runs": run.id,
            "runs/batches": batched(run).id,
            "status": acme.tenant.id,
            "status/waiting": acme.tenant.id,
            "tenants": acme.tenant.id,
            "workflow-tools": workflow["id"],
            "workflows": workflow["id"],
        }
    return Filled(acme, {name: str(value) for name, value in ids.items()})


def asked(run: Run, **fields: Any) -> Approval:
    """A question of the run's first step."""
    agent_run = AgentRun.objects.filter(run=run).first()
    facts = {"roles": ["admin", "owner"], "on_expire": "reject", "on_reject": "skip"}
    return Approval.objects.create(
        run_id=run.id,
        agent_run_id=agent_run.id,
        step=agent_run.step,
        **{"question": "Publish it?", **facts, **fields},
    )


def credential() -> Credential:
    """A key for a server that is not there."""
    return create_credential(
        name="main",
        provider="compatible",
        secret="sk-acme-0123456789",
        base_url="https://models.invalid/v1",
    )


def batched(run: Run) -> RunBatch:
    """A batch of this run alone."""
    facts = {"project_id": run.project_id, "size": 1, "started_by": run.started_by}
    batch = RunBatch.objects.create(name="nightly", **facts)
    Run.objects.filter(id=run.id).update(batch=batch)
    return batch


def _finish(run: Run) -> None:
    row = Run.objects.db_manager("system").filter(id=run.id)
    row.update(status="running")
    row.update(status="completed", output="done", finished_at=run.created_at)


def _budget() -> Budget:
    return Budget.objects.create(name="November", scope="tenant", limit_nano=10**9)


def _alert() -> CostAlert:
    facts = {"period": "2026-11", "spent_nano": 1, "limit_nano": 1}
    return CostAlert.objects.create(kind="unusual", **facts)


def _charge(run: Run) -> CostEntry:
    agent_run = AgentRun.objects.filter(run=run).first()
    return CostEntry.objects.create(
        id=uuid7(),
        tenant_id=run.tenant_id,
        kind="call",
        amount_nano=20,
        call_id=uuid7(),
        project_id=run.project_id,
        workflow_id=run.workflow_id,
        workflow_name="greet",
        run_id=run.id,
        agent_run_id=agent_run.id,
        attempt=1,
        step=agent_run.step,
        provider="local",
        model="smollm2",
        unit_prices={},
    )
