"""Steps that an agent delegates: who is asked before, and what it is told of them afterwards."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from agents_app.core.delegation import APPROVAL, Delegation, literal
from agents_app.core.values import as_text
from costs.core.money import format_usd, nano_from_usd
from orchestrator.core.held import NOTE_FORM
from orchestrator.core.jsonvalue import Json
from orchestrator.core.state import AgentRunStatus

# Of an output that is longer as text, the beginning is told: whoever delegates reads all of them.
MAX_TOLD: Final = 50_000


def must_ask(wanted: Delegation, worst_nano: int | None) -> bool:
    """Whether a person has to agree to steps that cost so much at most; None: nobody knows."""
    if not wanted.approval or not wanted.approve_above_usd or worst_nano is None:
        return bool(wanted.approval)
    return worst_nano > nano_from_usd(Decimal(wanted.approve_above_usd))


def asked_first(wanted: Delegation, worst_nano: int | None) -> dict[str, Json]:
    """The steps, none of which begins before a person has agreed."""
    worst = None if worst_nano is None else format_usd(worst_nano)
    shown: dict[str, Json] = {"plan": literal(wanted.given), "worst_case_usd": worst}
    asking: dict[str, Json] = {
        "question": literal(wanted.approval),
        "show": shown,
        "form": NOTE_FORM,
        "on_reject": "fail",
    }
    return {
        APPROVAL: {"approval": asking},
        **{name: _behind_approval(step) for name, step in wanted.steps.items()},
    }


def _behind_approval(step: Json) -> Json:
    if not isinstance(step, dict):
        return step
    needs = step.get("needs")
    return step if needs else {**step, "needs": [APPROVAL]}


def answer(status: str, reason: str, output: Json) -> dict[str, Json]:
    """The end of a step as that of a call: its output, or why there is none."""
    if status == AgentRunStatus.COMPLETED:
        return {"output": shortened(output)}
    return {"error": f"{status}: {reason}" if reason else status}


def report(status: str, reason: str, output: Json) -> dict[str, Json]:
    """The end of one step among several."""
    return {"status": status, **answer(status, reason, output)}


def shortened(output: Json) -> Json:
    text = as_text(output)
    if len(text) <= MAX_TOLD:
        return output
    return f"{text[:MAX_TOLD]}\n(cut: the first {MAX_TOLD:,} of {len(text):,} characters)"
