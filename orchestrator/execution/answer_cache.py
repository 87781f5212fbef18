"""Answers that a step may take from calls before instead of asking for them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import psycopg
import structlog
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout
from uuid_utils.compat import uuid7

from agents_app.core import values
from agents_app.core.model import FinishReason, ModelReply, ModelRequest
from orchestrator.execution import engine_db
from orchestrator.execution.call_rows import Turn, reply_from_json, reply_to_json, request_to_json
from orchestrator.execution.claims import Claim
from orchestrator.execution.errors import LeaseLostError, RunStoppingError

log = structlog.get_logger(__name__)

_FIND: Final = "SELECT * FROM muster_cached_answer(%s, %s, %s, %s)"
_KEEP: Final = "SELECT muster_keep_answer(%s, %s, %s, %s, %s, %s)"
# What was cut, refused or broken off is no answer to take again.
_WHOLE = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request in its turn, behind an earlier one; and whose key would ask it.

    `key` is the request's `answer_key`, by which its answer is found.
    """

    turn: int
    request: ModelRequest
    before: Turn | None
    credential_id: UUID | None
    key: str


class AnswerCache:
    """The answers of a tenant, for one attempt at a step that says `cache`.

    What is found passes no limiter, holds nothing and costs nothing; it is recorded as a call all
    the same, so that a later attempt has it. Nobody else's answers are ever found.
    """

    def __init__(self, claim: Claim, *, role: str, seconds: int) -> None:
        self._claim = claim
        self._role = role
        self._age = timedelta(seconds=seconds)

    def find(self, asked: Asked, *, give_up: Callable[[], bool]) -> ModelReply | None:
        """The answer to the very same request, if there is a young one.

        Raises LeaseLostError and RunStoppingError.
        """
        claim, request = self._claim, asked.request
        facts = {
            "agent_run": str(claim.agent_run_id),
            "attempt": claim.attempt,
            "call": str(uuid7()),
            "turn": asked.turn,
            "provider": request.provider,
            "model": request.model,
            "role": self._role,
            "credential": asked.credential_id and str(asked.credential_id),
            "request": request_to_json(request, before=asked.before),
        }
        arguments = (claim.tenant_id, Jsonb(facts), asked.key, self._age)
        row = engine_db.persistently(lambda: engine_db.one(_FIND, *arguments), give_up=give_up)
        match row and row["opened"]:
            case "missing":
                return None
            case "stopping":
                raise RunStoppingError
            case "cached" | "answered" if row:
                return reply_from_json(row["reply"])
        raise LeaseLostError(claim.step, claim.attempt)

    def keep(self, asked: Asked, reply: ModelReply) -> None:
        """Keep an answer that was paid for. A hint: the step has it, kept or not."""
        if reply.finish_reason not in _WHOLE:
            return
        try:
            engine_db.one(
                _KEEP,
                self._claim.tenant_id,
                asked.key,
                asked.request.provider,
                asked.request.model,
                Jsonb(reply_to_json(replace(reply, latency_ms=0))),
                self._age,
            )
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("answer_not_cached", error=type(error).__name__)


def answer_key(request: ModelRequest, credential_id: UUID | None) -> str:
    """All that the answer depends on; the time that it may take, and the attempt, are not of it.

    Whose key asks is, since with it goes the address of a tenant's own server.
    """
    schema = request.output_schema
    content: dict[str, Any] = {
        "provider": request.provider,
        "model": request.model,
        "credential": credential_id and str(credential_id),
        "schema": None if schema is None else dict(schema),
        **request_to_json(request),
    }
    return sha256(values.dump(content).encode("utf-8", errors="surrogatepass")).hexdigest()
