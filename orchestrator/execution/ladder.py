"""Where a run stands on its workflow's ladder, and the rules that take effect there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from psycopg.types.json import Jsonb

from agents_app.core.model import ModelRequest
from orchestrator.core.degrade import CapUse, Rung, Standing, calls_now_go_to
from orchestrator.core.jsonvalue import Json
from orchestrator.core.spec import DegradeRule, ModelChoice
from orchestrator.core.state import WaitingReason
from orchestrator.execution import engine_db
from orchestrator.execution.claims import Claim
from orchestrator.execution.engine_db import Row
from orchestrator.execution.errors import MustWaitError

CAP_USE: Final = "SELECT * FROM muster_cap_use(%s, %s)"
TELL: Final = "SELECT muster_degrade(%s, %s, %s, %s) AS told"
ASK: Final = "SELECT muster_ask_to_go_on(%s, %s, %s, %s, %s, %s, %s, %s) AS asks"
# When the answer is looked for again; while nobody has given it, the run is paused.
_ANSWER_SECONDS: Final = 1.0
_AMOUNTS: Final = ("spent_nano", "held_nano", "limit_nano")
_ANSWER: Final = "a person's yes to what the run spends"


def standing(ladder: Sequence[DegradeRule], found: Sequence[Row]) -> Standing:
    """From what `muster_cap_use` gives."""
    if not found:
        return Standing(ladder=ladder)
    row = found[0]
    return Standing(
        ladder=ladder,
        use=CapUse(**{name: row[name] for name in _AMOUNTS}),
        told=frozenset(row["told"]),
        is_asking=row["is_asking"],
    )


def told(at: Standing, rung: Rung, reason: str, **more: Json) -> list[Any]:
    """The arguments of TELL behind tenant and run."""
    return [rung.number, Jsonb(at.facts(rung, reason=reason, **more))]


def question(at: Standing, rung: Rung) -> list[Any]:
    """The arguments of ASK behind tenant and run."""
    asked = rung.rule.ask
    if asked is None:
        raise ValueError(f"rule {rung.number} asks nobody")
    reason = at.question(rung, asked)
    facts = at.facts(rung, reason=reason, roles=[*asked.roles])
    expires = float(asked.expires.seconds) if asked.expires else None
    can_mail = bool(settings.EMAIL_HOST)
    return [rung.number, reason, Jsonb(facts), list(asked.roles), expires, can_mail]


class Ladder:
    """The ladder of the run that an attempt is made in, looked at before each of its calls."""

    def __init__(
        self, rules: Sequence[DegradeRule], claim: Claim, *, give_up: Callable[[], bool]
    ) -> None:
        self._rules = rules
        self._run: tuple[UUID, UUID] = (claim.tenant_id, claim.run_id)
        self._give_up = give_up

    def model_for(
        self, request: ModelRequest, *, bound: Callable[[ModelRequest], int]
    ) -> ModelChoice | None:
        """Which model to call instead of the request's own, if another.

        `bound` is what a request may cost. Raises MustWaitError while the run waits for a
        person's yes to go on.
        """
        at = self._look()
        self._ask(at)
        rung = at.rung_for_call(lambda model: bound(with_model(request, model)))
        chosen = rung.rule.use if rung else None
        if rung is None or chosen is None or with_model(request, chosen) == request:
            return None
        if rung.number not in at.told:
            facts: Json = {"provider": chosen.provider, "model": chosen.model}
            self._write(TELL, *told(at, rung, calls_now_go_to(chosen, rung, at.use), use=facts))
        return chosen

    def _look(self) -> Standing:
        found = engine_db.persistently(
            lambda: engine_db.many(CAP_USE, *self._run), give_up=self._give_up
        )
        return standing(self._rules, found or [])

    def _ask(self, at: Standing) -> None:
        rung = at.rung("ask")
        is_due = rung is not None and rung.number not in at.told
        if rung is not None and is_due:
            self._write(ASK, *question(at, rung))
        # Also once what others held has come back: it is for people to say.
        if is_due or at.is_asking:
            raise MustWaitError(WaitingReason.BUDGET, _ANSWER, _ANSWER_SECONDS)

    def _write(self, query: str, *arguments: Any) -> None:
        engine_db.persistently(
            lambda: engine_db.one(query, *self._run, *arguments), give_up=self._give_up
        )


def with_model(request: ModelRequest, choice: ModelChoice | None) -> ModelRequest:
    """The request to another model, if one is given."""
    if choice is None:
        return request
    return replace(request, provider=choice.provider, model=choice.model)
