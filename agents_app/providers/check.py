"""Whether a provider can be used right now, with these settings and this key."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import FinishReason, Message, ModelReply, ModelRequest
from agents_app.providers.base import (
    ProviderClient,
    ProviderSettings,
    client_for,
    configuration_problem,
)
from costs.core.usage import Usage

_UNREACHED = frozenset(
    {
        ProviderErrorKind.NOT_CONFIGURED,
        ProviderErrorKind.CONNECTION,
        ProviderErrorKind.TIMEOUT,
        ProviderErrorKind.INVALID_REQUEST,
    }
)
_ENDED_WELL = frozenset({FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTEXT_FULL})
# Enough for a model that thinks before it says a word; an answer cut there is still an answer.
_MAX_OUTPUT_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What a check found. `usage` is what it cost, None if nothing was asked of a model.

    `reachable` means that someone answered, `ok` that the answer was in the right form.
    `limits` is the quota left, by the header that states it.
    """

    reachable: bool
    ok: bool
    detail: str
    latency_ms: int
    model: str = ""
    limits: Mapping[str, str] = field(default_factory=dict)
    usage: Usage | None = None


def check(settings: ProviderSettings, *, deadline_seconds: float = 10.0) -> CheckResult:
    """Ask the default model for one word; without a default model, only for the list of models.

    Never raises for what a provider does. The one word is a real call and is charged as such.
    """
    problem = configuration_problem(settings)
    if problem:
        return CheckResult(reachable=False, ok=False, detail=problem, latency_ms=0)
    return check_client(client_for(settings), settings, deadline_seconds=deadline_seconds)


def check_client(
    client: ProviderClient, settings: ProviderSettings, *, deadline_seconds: float = 10.0
) -> CheckResult:
    """The same with a client that was made for these settings and a key of its own."""
    started = time.monotonic()
    try:
        if settings.default_model:
            return _of_reply(client.complete(_question(settings, deadline_seconds)))
        names = client.models(deadline_seconds=deadline_seconds)
    except ProviderError as error:
        return CheckResult(
            reachable=error.status is not None or error.kind not in _UNREACHED,
            ok=False,
            detail=str(error),
            latency_ms=_since(started),
            model=settings.default_model,
        )
    return CheckResult(
        reachable=True, ok=True, detail=f"{len(names)} models listed", latency_ms=_since(started)
    )


def _question(settings: ProviderSettings, deadline_seconds: float) -> ModelRequest:
    return ModelRequest(
        provider=settings.name,
        model=settings.default_model,
        messages=(Message("user", "Answer with the word OK."),),
        max_output_tokens=_MAX_OUTPUT_TOKENS,
        deadline_seconds=deadline_seconds,
    )


def _of_reply(reply: ModelReply) -> CheckResult:
    ended_well = reply.finish_reason in _ENDED_WELL
    return CheckResult(
        reachable=True,
        ok=ended_well,
        detail="answered" if ended_well else f"the answer ended with {reply.finish_reason!r}",
        latency_ms=reply.latency_ms,
        model=reply.model,
        limits=reply.limits,
        usage=reply.usage,
    )


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
