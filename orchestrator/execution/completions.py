"""Answers that tools ask of models: through the gateway, and paid once."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Final
from uuid import UUID

from agents_app.core.completing import Completion
from agents_app.core.errors import CompletionRefusedError
from agents_app.core.model import Message, ModelReply, ModelRequest
from costs.core.errors import UnknownPriceError
from orchestrator.core.spec import ModelChoice
from orchestrator.execution.errors import RateLimitedError, StepCapError
from orchestrator.execution.gateway import GuardedClient
from orchestrator.execution.leases import Lease

_MOST_SECONDS: Final = 240.0


class Completions:
    """The port `Completing` for one attempt.

    `client_for` makes a client whose calls belong to a tool call; `models` are those that may be
    asked, by the name that a tool gives them, of which "" is the agent's own.
    """

    def __init__(
        self,
        client_for: Callable[[UUID], GuardedClient],
        lease: Lease,
        *,
        models: Mapping[str, ModelChoice],
    ) -> None:
        # One for each tool call, since it counts what that asks.
        self._client_of = cache(client_for)
        self._lease = lease
        self._models = models

    def complete(self, wanted: Completion, *, call_id: UUID) -> ModelReply:
        chosen = self._models.get(wanted.model)
        if chosen is None:
            known = ", ".join(filter(None, self._models)) or "none but its own"
            raise CompletionRefusedError(
                f"this step names no model {wanted.model!r}; it has {known}"
            )
        request = ModelRequest(
            provider=chosen.provider,
            model=chosen.model,
            system=wanted.system,
            messages=(Message("user", wanted.prompt),),
            max_output_tokens=wanted.max_output_tokens,
            deadline_seconds=max(0.1, min(self._lease.seconds_left, _MOST_SECONDS)),
        )
        try:
            return self._client_of(call_id).complete(request)
        except (RateLimitedError, StepCapError, UnknownPriceError) as error:
            # Of this call alone: its agent may go on without it.
            raise CompletionRefusedError(str(error)) from error
