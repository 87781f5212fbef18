"""What a storm over money is about: a budget, limits, and a run that wants more than they give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from costs.models import Budget, PlatformPrice
from orchestrator.chaos.money_rows import Bucket
from orchestrator.core.limits import Unit
from orchestrator.models import RateLimit, Run
from orchestrator.services.runs import start_run
from orchestrator.services.workflows import publish_spec
from tenants.models import Project, Tenant
from tenants.scope import tenant_scope

MODEL: Final = "money"
MOST_OUTPUT: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """`rate` calls a second are let through; the budget is raised by `raise_nano` at a time."""

    processes: int
    threads: int
    seconds: float
    rate: int
    places: int
    raise_nano: int
    faults: Mapping[str, int]

    @property
    def buckets(self) -> list[Bucket]:
        rate, tokens = self.rate, self.rate * MOST_OUTPUT // 2
        return [
            Bucket(unit=Unit.REQUESTS, per_second=rate, capacity=rate // 4),
            Bucket(unit=Unit.REQUESTS, per_second=rate, capacity=rate),
            Bucket(unit=Unit.OUTPUT, per_second=tokens, capacity=tokens),
        ]


SHORT: Final = Size(
    processes=4,
    threads=16,
    seconds=6,
    rate=20,
    places=30,
    raise_nano=40_000_000,
    faults={"kill": 2, "freeze": 1, "wipe": 1, "stale": 1},
)
LONG: Final = Size(
    processes=8,
    threads=32,
    seconds=60,
    rate=50,
    places=36,
    raise_nano=400_000_000,
    faults={"kill": 12, "freeze": 3, "wipe": 2, "stale": 2},
)


def prepare(size: Size, *, seed: int) -> tuple[Tenant, Run]:
    """A tenant whose run has more to ask than its budget will ever allow."""
    PlatformPrice.objects.using("system").create(
        provider="simulated",
        model=MODEL,
        valid_from=date(2020, 1, 1),
        input_usd=1,
        output_usd=10,
    )
    tenant = Tenant.objects.using("system").create(
        slug="acme", name="Acme", uses_environment_credentials=True
    )
    with tenant_scope(tenant.id):
        _limit(size)
        Budget.objects.create(
            name="All", scope="tenant", interval="total", limit_nano=size.raise_nano
        )
        project = Project.objects.create(slug="main", name="Main")
        version = publish_spec(project=project, spec=_spec(size, seed))
        items = list(range(int(size.rate * size.seconds * 1.5)))
        return tenant, start_run(workflow=version.workflow, input={"items": items})


def _limit(size: Size) -> None:
    by_second, by_minute, tokens = size.buckets
    for unit, period, bucket, seconds in (
        ("requests", "second", by_second, 1),
        ("requests", "minute", by_minute, 60),
        ("output_tokens", "second", tokens, 1),
    ):
        RateLimit.objects.create(
            scope="tenant",
            unit=unit,
            period=period,
            limit=bucket.per_second * seconds,
            capacity=bucket.capacity,
        )
    RateLimit.objects.create(scope="tenant", unit="concurrent", limit=size.places)


def _spec(size: Size, seed: int) -> dict[str, Any]:
    return {
        "muster": 1,
        "name": "money",
        "inputs": {
            "type": "object",
            "required": ["items"],
            "properties": {"items": {"type": "array"}},
        },
        "steps": {
            "each": {
                "agent": {"type": "prompt", "provider": "simulated", "model": MODEL},
                "prompt": "Say something about ${item}.",
                "parameters": {
                    "seed": seed,
                    "latency": {"distribution": "uniform", "low": 0.1, "high": 0.7},
                    "output_tokens": [1, MOST_OUTPUT],
                    "max_output_tokens": MOST_OUTPUT,
                    "failures": {"server": 0.03, "connection": 0.02},
                },
                "retry": {"attempts": 3, "base": "1s"},
                "max_wait": "1h",
                "map": {
                    "over": "${input.items}",
                    "parallel": size.processes * size.threads,
                    "allow_failed": 1.0,
                },
            }
        },
    }
