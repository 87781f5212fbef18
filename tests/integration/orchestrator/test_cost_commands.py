import csv
import io
import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings

from agents_app.core.model import ModelReply, ModelRequest
from agents_app.providers.simulated import SimulatedClient
from costs.models import CostEntry, PlatformPrice, TenantPrice
from orchestrator.execution.providers import provider_settings
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain
from tests.integration.costs.test_budgets import budget
from tests.ledger import at, charge
from tests.world import World

NOVEMBER = ("--from", "2026-11-01", "--through", "2026-11-30")
GPT = "gpt-5.2"


def run(*arguments: str) -> tuple[str, int]:
    out = io.StringIO()
    try:
        call_command(*arguments, stdout=out, stderr=io.StringIO())
    except SystemExit as left:
        return out.getvalue(), int(left.code or 0)
    return out.getvalue(), 0


def report(world: World, *arguments: str) -> str:
    return run("costs", "report", "--tenant", world.tenant.slug, *NOVEMBER, *arguments)[0]


def test_report_as_json_and_csv(acme: World, globex: World) -> None:
    charge(acme, held_at=at("2026-11-05 12:00"), amount_nano=7)
    charge(globex, held_at=at("2026-11-05 12:00"))

    document = json.loads(report(acme, "--by", "day,model", "--format", "json"))
    (line,) = csv.DictReader(io.StringIO(report(acme, "--by", "day,model", "--format", "csv")))

    assert document["total"]["cost_usd"] == "0.000000007"
    assert (line["day"], line["model"], line["cost_usd"]) == (
        "2026-11-05",
        "smollm2",
        "0.000000007",
    )


def test_report_as_a_table(acme: World, capsys: pytest.CaptureFixture[str]) -> None:
    charge(acme, held_at=at("2026-11-05 12:00"), amount_nano=5 * 10**8)

    report(acme)

    shown = capsys.readouterr().out
    assert "2026" in shown
    assert "0.5" in shown


def test_report_shows_budgets(acme: World, capsys: pytest.CaptureFixture[str]) -> None:
    budget(acme, 10**9, name="For November")

    (row,) = json.loads(report(acme, "--format", "json"))["budgets"]
    report(acme)

    assert (row["name"], row["left_usd"], row["for"]) == ("For November", "1", "the whole tenant")
    assert "For November" in capsys.readouterr().out


def test_report_of_all_tenants(acme: World) -> None:
    charge(acme, held_at=at("2026-11-05 12:00"), amount_nano=7)

    told, _ = run("costs", "report", "--all", *NOVEMBER, "--by", "tenant", "--format", "json")

    found = {row["tenant"]: row["cost_usd"] for row in json.loads(told)["rows"]}
    assert found[acme.tenant.slug] == "0.000000007"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tz", "Mars/Olympus"),
        ("--by", "colour"),
        ("--from", "soon"),
        ("--from", "2026-11-30", "--through", "2026-11-01"),
        ("--through", "9999-12-31"),
    ],
)
def test_bad_question_is_a_usage_error(acme: World, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as told:
        run("costs", "report", "--tenant", acme.tenant.slug, *arguments)

    assert told.value.returncode == 2


def test_unknown_tenant_is_a_usage_error(live_db: None) -> None:
    with pytest.raises(CommandError, match="no tenant"):
        run("costs", "report", "--tenant", "nobody")


@pytest.fixture
def configured(live_db: None) -> Any:
    """Two models in the settings, one of which nobody has a price for."""
    providers = {
        name: dict.fromkeys(given, "") for name, given in settings.MUSTER_PROVIDERS.items()
    }
    providers["openai"]["model"] = GPT
    providers["compatible"]["model"] = "house-model"
    with override_settings(MUSTER_PROVIDERS=providers):
        provider_settings.cache_clear()
        yield
    provider_settings.cache_clear()
    with connections["owner"].cursor() as cursor:
        cursor.execute("DELETE FROM platform_price WHERE provider IN ('openai', 'compatible')")


ANY = {"type": "prompt", "provider": "simulated"}


def shown(*arguments: str) -> dict[tuple[str, str], dict[str, Any]]:
    told, _ = run("prices", "show", "--json", *arguments)
    return {(row["provider"], row["model"]): row for row in json.loads(told)}


def test_prices_show_what_holds_and_what_is_missing(configured: None) -> None:
    book = shown()

    assert book["openai", GPT]["usd_per_million"]["cached"] == "0.175"
    assert book["openai", GPT]["source"].startswith("genai-prices")
    assert book["compatible", "house-model"]["usd_per_million"] is None
    assert run("prices", "show")[1] == 1


def test_prices_show_what_workflows_name_and_fall_back_on(configured: None, acme: World) -> None:
    fallback = [{"provider": "simulated", "model": "spare"}]
    judge = {**simulated("judge"), "agent": {**ANY, "model": "in-a-loop"}}
    rounds = {"steps": {"judge": judge}, "until": "true", "max_rounds": 2, "output": "done"}
    start(acme, {"a": simulated("hello") | {"fallback": fallback}, "b": {"loop": rounds}})

    book = shown("--tenant", acme.tenant.slug)

    names = {model for provider, model in book if provider == "simulated"}
    assert {"sim", "spare", "in-a-loop"} <= names


def test_prices_show_a_tenants_own(configured: None, acme: World) -> None:
    with acme.scope():
        TenantPrice.objects.create(
            provider="openai", model=GPT, valid_from=date(2026, 1, 1), input_usd=0, output_usd=0
        )

    row = shown("--tenant", acme.tenant.slug)["openai", GPT]

    assert (row["is_free"], row["differs_from_library"]) == (True, True)
    assert shown()["openai", GPT]["is_free"] is False


def test_pinned_price_is_the_librarys_with_its_tiers(configured: None) -> None:
    told, code = run("prices", "pin", "anthropic/claude-sonnet-4-5")

    row = PlatformPrice.objects.get(provider="anthropic", model="claude-sonnet-4-5")
    price = row.as_price(source="")
    assert (code, "holds from today on" in told) == (0, True)
    assert (str(price.rates(250_000).cache_write_1h), price.rates(10).input) == ("12", 3)
    assert "holds already" in run("prices", "pin", "anthropic/claude-sonnet-4-5")[0]
    with connections["owner"].cursor() as cursor:
        cursor.execute("DELETE FROM platform_price WHERE provider = 'anthropic'")


def test_all_that_the_library_knows_is_pinned_and_rows_are_never_edited(configured: None) -> None:
    assert run("prices", "pin")[1] == 0
    with connections["owner"].cursor() as cursor:
        cursor.execute("UPDATE platform_price SET input_usd = 99 WHERE model = %s", [GPT])

    told, code = run("prices", "pin", f"openai/{GPT}")

    assert (code, "another row begins today" in told) == (1, True)
    assert PlatformPrice.objects.get(model=GPT).input_usd == 99


def test_price_of_a_model_under_another_name_is_pinned(configured: None) -> None:
    _, code = run("prices", "pin", "compatible/house-model", "--from", f"openai/{GPT}")

    assert code == 0
    assert shown()["compatible", "house-model"]["usd_per_million"]["output"].startswith("14")


def test_price_that_the_library_lacks_is_not_pinned(configured: None) -> None:
    assert run("prices", "pin", "compatible/house-model")[1] == 1
    for wrong in (("openai",), ("openai/",), ("a/b", "c/d", "--from", "openai/x")):
        with pytest.raises(CommandError):
            run("prices", "pin", *wrong)


def test_answer_under_another_name_is_charged_as_the_model_that_was_asked_for(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = SimulatedClient.complete

    def renamed(client: SimulatedClient, request: ModelRequest) -> ModelReply:
        return replace(answer(client, request), model="sim-2026-11-01")

    monkeypatch.setattr(SimulatedClient, "complete", renamed)
    with acme.scope():
        for model, usd in (("sim", 1), ("sim-2026-11-01", 1000)):
            TenantPrice.objects.create(
                provider="simulated",
                model=model,
                valid_from=date(2026, 1, 1),
                input_usd=usd,
                output_usd=usd,
            )

    drain(acme, start(acme, {"a": simulated("hello")}))

    with acme.scope():
        entry = CostEntry.objects.get(tenant=acme.tenant)
    assert entry.model == "sim-2026-11-01"
    assert entry.amount_nano == 1000 * (entry.input_tokens + entry.output_tokens)
