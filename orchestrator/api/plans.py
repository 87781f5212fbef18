"""How the price of a plan is shown."""

from typing import Any

from rest_framework import serializers

from costs.core.money import format_usd
from orchestrator.api.serializers import ShapeOut
from orchestrator.core.expectation import Expectation, Likely, StepHistory
from orchestrator.core.prices import Amounts, StepPrice
from orchestrator.selectors.plan_prices import DraftPrice

_USD = "USD; null: nothing bounds it, or it is not known (see `notes`)."
_SECONDS_DIGITS = 3


def _usd(text: str = _USD, **options: Any) -> Any:
    return serializers.CharField(allow_null=True, help_text=text, **options)


class NoteOut(serializers.Serializer[Any]):
    step = serializers.CharField(help_text="Its place, such as `polish.write` for a loop's step.")
    code = serializers.ChoiceField(
        ["no_price", "open_map", "adds_steps", "hands_out", "own_code", "asks_models", "no_agent"]
    )
    message = serializers.CharField()


class LikelyOut(serializers.Serializer[Any]):
    runs = serializers.IntegerField(help_text="How many runs this was learnt from.")
    mean_usd = serializers.CharField()
    p50_usd = serializers.CharField()
    p95_usd = serializers.CharField()
    p50_s = serializers.FloatField(allow_null=True)
    p95_s = serializers.FloatField(allow_null=True)


class StepExpectedOut(LikelyOut):
    """Of the runs in which the step ran."""

    of_runs = serializers.IntegerField(help_text="How many runs had the step, run or skipped.")


class ExpectedOut(LikelyOut):
    method = serializers.ChoiceField(
        ["runs", "draws"],
        help_text="From whole runs, or summed up from draws of every step's own history.",
    )


class DurationOut(serializers.Serializer[Any]):
    seconds = serializers.FloatField(help_text="The medians along the critical path.")
    critical_path = serializers.ListField(child=serializers.CharField())


class StepPriceOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    kind = serializers.CharField()
    provider = serializers.CharField(allow_null=True)
    model = serializers.CharField(allow_null=True)
    runs = serializers.ChoiceField(["always", "maybe", "never"])
    worst_usd = _usd()
    cheapest_usd = _usd("What the cheapest way pays for it.")
    item_worst_usd = _usd("Of one item, where the step goes over a list.")
    most_calls = serializers.IntegerField(allow_null=True)
    most_input_tokens = serializers.IntegerField(
        allow_null=True, help_text="Of one call of the step's own agent."
    )
    input_bound = serializers.ChoiceField(
        ["prompt", "context_window", "rendered_prompt"], allow_null=True
    )
    notes = NoteOut(many=True)
    expected = StepExpectedOut(allow_null=True)


class PriceOut(serializers.Serializer[Any]):
    worst_usd = _usd()
    cheapest_usd = _usd("What a run that completes pays at the least.")
    least_cap_usd = _usd("The smallest `max_cost_usd` that the cheapest way fits.")
    most_calls = serializers.IntegerField(allow_null=True)
    notes = NoteOut(many=True)
    expected = ExpectedOut(allow_null=True)
    expected_duration = DurationOut(allow_null=True)
    without_history = serializers.ListField(
        child=serializers.CharField(),
        help_text="Steps that may cost something and have not run yet: why nothing is expected.",
    )
    steps = StepPriceOut(many=True)


class PlanOut(ShapeOut):
    price = PriceOut(allow_null=True)
    price_hindrance = serializers.CharField(
        allow_null=True, help_text="Why the draft has no price, in one sentence."
    )


def told_price(found: DraftPrice) -> dict[str, Any]:
    if found.price is None or found.expected is None:
        return {"price": None, "price_hindrance": found.hindrance}
    total = found.price.amounts
    price = {
        **_amounts(total),
        "least_cap_usd": _money(found.price.least_cap),
        "expected": _expected(found.expected),
        "expected_duration": _duration(found.expected),
        "without_history": found.expected.missing,
        "steps": [_step(step, found.history.steps.get(step.name)) for step in found.price.steps],
    }
    return {"price": price, "price_hindrance": None}


def _step(step: StepPrice, history: StepHistory | None) -> dict[str, Any]:
    likely = history.likely if history else None
    return {
        "name": step.name,
        "kind": step.kind,
        "provider": step.provider,
        "model": step.model,
        "runs": step.runs,
        **_amounts(step.amounts),
        "item_worst_usd": _money(step.item_worst),
        "most_input_tokens": step.input_tokens,
        "input_bound": step.input_bound,
        "expected": {**_likely(likely), "of_runs": history.seen} if history and likely else None,
    }


def _amounts(amounts: Amounts) -> dict[str, Any]:
    return {
        "worst_usd": _money(amounts.worst),
        "cheapest_usd": _money(amounts.least),
        "most_calls": amounts.calls,
        "notes": amounts.notes,
    }


def _expected(found: Expectation) -> dict[str, Any] | None:
    return {**_likely(found.total), "method": found.method} if found.total else None


def _duration(found: Expectation) -> dict[str, Any] | None:
    if found.seconds is None:
        return None
    seconds = round(found.seconds, _SECONDS_DIGITS)
    return {"seconds": seconds, "critical_path": found.critical_path}


def _likely(found: Likely) -> dict[str, Any]:
    return {
        "runs": found.count,
        "mean_usd": format_usd(found.mean_nano),
        "p50_usd": format_usd(found.p50_nano),
        "p95_usd": format_usd(found.p95_nano),
        "p50_s": _seconds(found.p50_seconds),
        "p95_s": _seconds(found.p95_seconds),
    }


def _seconds(found: float | None) -> float | None:
    return None if found is None else round(found, _SECONDS_DIGITS)


def _money(nano: int | None) -> str | None:
    return None if nano is None else format_usd(nano)
