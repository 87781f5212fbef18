import pytest
from django.utils import timezone

from tests.ledger import charge
from tests.rest import get, made
from tests.world import World


def found(world: World, query: str = "") -> list[str]:
    rows = made(get(world.client(), f"costs/entries?{query}"))["results"]
    return [row["id"] for row in rows]


def test_ledger_line_shows_its_cost_in_usd(acme: World) -> None:
    entry = charge(acme)

    line = made(get(acme.client(), f"costs/entries/{entry.id}"))

    assert (line["cost_usd"], line["workflow"], line["step"]) == ("0.0004", "greet", "hello")


def test_ledger_is_filtered(acme: World) -> None:
    one, two = charge(acme), charge(acme, kind="failed", amount_nano=0, provider="openai")
    later = timezone.now().isoformat().replace("+00:00", "Z")

    assert found(acme) == [str(two.id), str(one.id)]
    assert found(acme, "kind=failed") == [str(two.id)]
    assert found(acme, f"run={one.run_id}") == [str(one.id)]
    assert found(acme, "provider=openai&model=smollm2") == [str(two.id)]
    assert found(acme, f"from={later}") == []
    assert found(acme, f"to={later}") == [str(two.id), str(one.id)]


@pytest.mark.parametrize("query", ["run=x", "from=now", "kind=gift", "group_by=day"])
def test_bad_filter_is_refused(acme: World, query: str) -> None:
    assert get(acme.client(), f"costs/entries?{query}").status_code == 400


def test_ledger_needs_its_scope(acme: World) -> None:
    assert get(acme.client("runs:read"), "costs/entries").status_code == 403
