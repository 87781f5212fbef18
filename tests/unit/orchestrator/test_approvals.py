"""Who may decide, and when it is too late."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.models import Approval, Run
from orchestrator.services.approvals import refusal, role_of
from tenants.kernel.clock import now
from tenants.principals import Principal

ACME = UUID(int=1)


def caller(role: str = "admin", kind: str = "user") -> Principal:
    return Principal(
        tenant_id=ACME, scopes=frozenset(), actor_kind=kind, actor_id="7", label="ada", role=role
    )


def asked(*, by: str = "8", stop_wanted: str = "", **fields: Any) -> Approval:
    run = Run(tenant_id=ACME, started_by={"kind": "user", "id": by}, stop_wanted=stop_wanted)
    return Approval(tenant_id=ACME, run=run, **{"roles": ["admin"], **fields})


@pytest.mark.parametrize(
    ("approval", "role", "told"),
    [
        (asked(), "admin", None),
        (asked(by="7"), "admin", None),
        (asked(expires_at=now() + timedelta(hours=1)), "admin", None),
        (asked(), "owner", "whose role is admin"),
        (asked(roles=["owner", "editor"]), "admin", "whose role is owner or editor"),
        (asked(by="7", exclude_requester=True), "admin", "started the run"),
        (asked(by="8", exclude_requester=True), "admin", None),
        (asked(status="withdrawn"), "admin", "it is withdrawn"),
        (asked(expires_at=now()), "admin", "it is expired"),
        (asked(stop_wanted="cancelled"), "admin", "of a run that is being stopped"),
    ],
)
def test_refusal_says_why(approval: Approval, role: str, told: str | None) -> None:
    refused = refusal(approval, caller(role))

    assert refused is None if told is None else told in str(refused)


def test_key_decides_as_an_admin() -> None:
    assert role_of(caller(role="", kind="api_key")) == "admin"
    assert role_of(caller(role="editor")) == "editor"
