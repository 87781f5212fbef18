"""Whose key a call is made with, and how soon a change of it counts."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.db import OperationalError

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import Message, ModelRequest
from costs.models import TenantPrice
from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.execution import credentials as own
from orchestrator.execution.providers import TenantClient, client_for_tenant, provider_settings
from orchestrator.models import Run, WorkflowVersion
from orchestrator.services.batches import Wanted, start_batch
from orchestrator.services.errors import InputInvalidError
from orchestrator.services.replay import replay_run
from orchestrator.services.runs import start_run
from orchestrator.services.workflows import publish_spec
from tenants.kernel.clock import now
from tenants.models import Credential, Tenant
from tenants.selectors.credentials import state_of
from tenants.services.credentials import (
    change_credential,
    create_credential,
    delete_credential,
    retire_secret,
    rotate_credential,
)
from tests.engine_driver import drain_all, step_of
from tests.eventually import eventually
from tests.model_servers import RawServer, http, raw_server
from tests.world import World

OPERATORS = "sk-operator-0123456789"
OLD = "sk-acme-old-0123456789-aaaa"
NEW = "sk-acme-new-0123456789-bbbb"
REQUEST = ModelRequest(provider="compatible", model="m", messages=(Message("user", "Hi"),))


@contextmanager
def provider(*accepts: str) -> Iterator[RawServer]:
    """A server that lets these keys in, and answers with the one that was used."""

    def talk(server: RawServer, connection: Any, asked: bytes) -> None:
        key = next((k for k in accepts if f"bearer {k}".encode() in asked.lower()), None)
        text = {"message": {"content": key}, "finish_reason": "stop"}
        body = {"choices": [text], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
        refusal = {"error": {"message": "no such key", "code": "invalid_api_key"}}
        answer = http(body) if key else http(refusal, status="401 Unauthorized")
        connection.sendall(answer)

    with raw_server(talk) as server:
        yield server


@pytest.fixture(autouse=True)
def _platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An operator with a key for OpenAI, whose tenants may reach the servers of the tests."""
    given = settings.MUSTER_PROVIDERS
    openai = {**given["openai"], "api_key": OPERATORS}
    monkeypatch.setattr(settings, "MUSTER_PROVIDERS", {**given, "openai": openai})
    monkeypatch.setattr(settings, "MUSTER_PRIVATE_NETWORKS", [ip_network("127.0.0.0/8")])
    provider_settings.cache_clear()
    yield
    monkeypatch.undo()
    provider_settings.cache_clear()


def kept(world: World, **facts: Any) -> Credential:
    with world.scope():
        return create_credential(**{"name": "main", "provider": "openai", "secret": OLD, **facts})


def calling(world: World, name: str = "openai", *, flagged: bool = True) -> TenantClient:
    return client_for_tenant(name, tenant_id=world.tenant.id, uses_environment=flagged)


def answer(world: World) -> str:
    return calling(world, "compatible").client.complete(REQUEST).text


def refusal(world: World, name: str = "openai", *, flagged: bool = True) -> str:
    with pytest.raises(ProviderError) as caught:
        calling(world, name, flagged=flagged)
    assert caught.value.kind is ProviderErrorKind.NOT_CONFIGURED
    return str(caught.value)


def can_call(world: World, name: str) -> bool:
    try:
        calling(world, name)
    except ProviderError:
        return False
    return True


def forget() -> None:
    """As another process would see it, or this one some seconds later."""
    own._fresh.clear()


def spec(name: str = "ask", **step: Any) -> dict[str, Any]:
    agent = {"type": "prompt", "provider": "openai", "model": "gpt-4o"}
    steps = {"hello": {"agent": agent, "prompt": "Hi", **step}}
    return {"muster": 1, "name": name, "steps": steps}


def published(world: World, workflow: dict[str, Any]) -> WorkflowVersion:
    with world.scope():
        return publish_spec(project=world.project, spec=workflow)


def started(world: World, version: WorkflowVersion) -> Run:
    with world.scope():
        return start_run(workflow=version.workflow, version=version, input={})


def unflag(world: World) -> None:
    Tenant.objects.using("system").filter(id=world.tenant.id).update(
        uses_environment_credentials=False
    )


def test_own_credential_goes_before_the_operators_key(acme: World, globex: World) -> None:
    row = kept(acme)

    assert calling(acme).credential_id == row.id
    assert calling(globex).credential_id is None


def test_operators_key_serves_flagged_tenants_only(acme: World) -> None:
    assert "has no credential" in refusal(acme, flagged=False)


def test_operators_key_for_a_compatible_server_is_the_operators_too(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings.MUSTER_PROVIDERS
    theirs = {**given["compatible"], "base_url": "http://127.0.0.1:9/v1", "api_key": OPERATORS}
    monkeypatch.setattr(settings, "MUSTER_PROVIDERS", {**given, "compatible": theirs})
    provider_settings.cache_clear()

    assert calling(acme, "compatible").credential_id is None
    assert "has no credential" in refusal(acme, "compatible", flagged=False)


def test_operators_key_does_not_step_in_for_one_that_cannot_be_read(acme: World) -> None:
    row = kept(acme)
    given = settings.CREDENTIALS_KEYS
    settings.CREDENTIALS_KEYS = [Fernet.generate_key().decode()]
    try:
        assert "encrypted with a key that this platform no longer has" in refusal(acme)
        with acme.scope():
            assert state_of(row) == "unreadable"
    finally:
        settings.CREDENTIALS_KEYS = given


def test_damaged_secret_is_a_clear_refusal(acme: World) -> None:
    row = kept(acme)
    with acme.scope():
        Credential.objects.filter(id=row.id).update(secret=b"damaged")

    assert "cannot be read" in refusal(acme)


def test_operators_key_never_goes_to_a_tenants_address(acme: World) -> None:
    with provider(OLD, OPERATORS) as server:
        kept(acme, provider="compatible", base_url=f"{server.url}/v1")

        assert answer(acme) == OLD


def test_use_is_noted(acme: World) -> None:
    row = kept(acme)

    calling(acme)

    with acme.scope():
        row.refresh_from_db()
    assert row.last_used_at is not None


def test_client_is_made_once_for_each_version(acme: World) -> None:
    row = kept(acme)
    first = calling(acme).client
    assert calling(acme).client is first

    with acme.scope():
        rotate_credential(row, secret=NEW)
    forget()

    assert calling(acme).client is not first


def test_rotated_and_disabled_credentials_count_within_seconds(acme: World) -> None:
    with provider(OLD, NEW) as server:
        row = kept(acme, provider="compatible", base_url=f"{server.url}/v1")
        assert answer(acme) == OLD

        with acme.scope():
            rotate_credential(row, secret=NEW)
        assert eventually(lambda: answer(acme) == NEW, within=8)

        with acme.scope():
            change_credential(row, enabled=False)
        eventually(lambda: not can_call(acme, "compatible"), within=8)


def test_newest_secret_that_works_is_used_and_the_refusal_seen(acme: World) -> None:
    with provider(OLD) as server:
        row = kept(acme, provider="compatible", base_url=f"{server.url}/v1")
        with acme.scope():
            row = rotate_credential(row, secret=NEW)
        forget()

        assert [answer(acme), answer(acme)] == [OLD, OLD]
        assert len(server.requests) == 3

    with acme.scope():
        row.refresh_from_db()
        assert state_of(row) == "refused"
        assert state_of(retire_secret(row, newest=True)) == "unchecked"


def test_deleted_credential_leaves_no_opened_secret_behind(acme: World) -> None:
    row = kept(acme)
    calling(acme)
    assert row.id in own._clients

    with acme.scope():
        delete_credential(row)
    forget()
    calling(acme)

    assert row.id not in own._clients


def test_what_was_known_serves_while_the_database_is_away(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = kept(acme)
    calling(acme)

    def away() -> None:
        raise OperationalError("the server is gone")

    monkeypatch.setattr(own, "serving_credentials", away)
    forget()

    assert calling(acme).credential_id == row.id


def test_workflow_without_a_usable_provider_is_not_published(acme: World) -> None:
    unflag(acme)

    with pytest.raises(WorkflowInvalidError, match="not configured") as caught:
        published(acme, spec())

    assert {problem.code for problem in caught.value.problems} == {"provider_not_configured"}
    kept(acme)
    assert published(acme, spec())


def test_run_is_refused_before_it_starts(acme: World) -> None:
    unflag(acme)
    row = kept(acme)
    version = published(acme, spec())
    assert started(acme, version)
    with acme.scope():
        change_credential(row, enabled=False)
    forget()

    with pytest.raises(InputInvalidError) as caught:
        started(acme, version)

    (problem,) = caught.value.problems
    assert (problem.loc, problem.code) == ("/workflow", "provider_not_configured")
    assert "Step `hello` needs `openai`: this tenant has no credential" in problem.message
    with acme.scope():
        assert Run.objects.count() == 1


def test_credential_that_was_just_added_lets_a_run_start(acme: World) -> None:
    unflag(acme)
    row = kept(acme)
    version = published(acme, spec())
    with acme.scope():
        delete_credential(row)
    forget()
    with pytest.raises(InputInvalidError):
        started(acme, version)

    kept(acme)

    assert started(acme, version)


def test_sub_workflows_and_loops_are_looked_into(acme: World) -> None:
    unflag(acme)
    row = kept(acme)
    inner = {
        "again": {
            "loop": {
                "steps": {"say": spec()["steps"]["hello"]},
                "until": "true",
                "max_rounds": 2,
                "output": "${steps.say.output}",
            }
        }
    }
    published(acme, {"muster": 1, "name": "inner", "steps": inner})
    outer = {"muster": 1, "name": "outer", "steps": {"call": {"workflow": "inner"}}}
    version = published(acme, outer)
    with acme.scope():
        delete_credential(row)
    forget()

    with pytest.raises(InputInvalidError, match="`say` needs `openai`"):
        started(acme, version)


def test_batch_names_the_run_that_cannot_start(acme: World) -> None:
    unflag(acme)
    row = kept(acme)
    version = published(acme, spec())
    with acme.scope():
        delete_credential(row)
        forget()
        with pytest.raises(InputInvalidError) as caught:
            start_batch([Wanted(place=3, workflow=version.workflow, input={})])

    assert [(p.loc, p.code) for p in caught.value.problems] == [
        ("/runs/3/workflow", "provider_not_configured")
    ]


def test_models_of_a_credential_go_before_the_operators(acme: World) -> None:
    kept(acme, default_model="gpt-4o-mini", models={"reviewer": "gpt-4o"})
    steps = {
        name: {"agent": {"type": "prompt", "provider": "openai"}, "prompt": prompt}
        for name, prompt in {"write": "Write it.", "review": "Review it."}.items()
    }

    version = published(acme, {"muster": 1, "name": "both", "steps": steps})

    models = {step["name"]: step["model"] for step in version.plan["steps"]}
    assert models == {"write": "gpt-4o-mini", "review": "gpt-4o"}


def priced(world: World) -> UUID:
    with world.scope():
        return TenantPrice.objects.create(
            provider="compatible", model="m", valid_from=now().date(), input_usd=1, output_usd=1
        ).id


def test_run_calls_with_the_tenants_own_key(acme: World) -> None:
    priced(acme)
    agent = {"type": "prompt", "provider": "compatible", "model": "m"}
    with provider(OLD) as server:
        kept(acme, provider="compatible", base_url=f"{server.url}/v1")
        version = published(acme, spec(agent=agent))

        run = drain_all(acme, started(acme, version).id)

    assert run.status == "completed", run.status_reason
    assert step_of(acme, run.id, "hello").output == OLD


def test_replay_looks_into_loops_too(acme: World) -> None:
    priced(acme)
    agent = {"type": "prompt", "provider": "compatible", "model": "m"}
    say = {"say": spec(agent=agent)["steps"]["hello"]}
    rounds = {"steps": say, "until": "true", "max_rounds": 1, "output": "${steps.say.output}"}
    with provider(OLD) as server:
        row = kept(acme, provider="compatible", base_url=f"{server.url}/v1")
        version = published(acme, {"muster": 1, "name": "r", "steps": {"again": {"loop": rounds}}})
        run = drain_all(acme, started(acme, version).id)
    assert run.status == "completed", run.status_reason

    with acme.scope():
        delete_credential(row)
        forget()
        with pytest.raises(InputInvalidError, match="`say` needs `compatible`"):
            replay_run(run, from_step="again")
