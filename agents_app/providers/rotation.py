"""A client with two keys, as a credential has while it is rotated."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import ModelReply, ModelRequest, TokenCount
from agents_app.providers.base import ProviderClient
from agents_app.providers.batches import BatchClient, BatchedAnswer, BatchState, Found, Sent

T = TypeVar("T")
# How long a refused key is not tried first: it may be a new one that is not valid everywhere yet.
PASSED_OVER_SECONDS = 60.0


class RotatingClient:
    """Asks with the newest key; where the provider refuses it, with the one before.

    A refusal (401) costs nothing and nothing has been done, so the question may be asked again
    within the same call and its deadline. `on_refused` is told of the newest key's refusals.
    """

    def __init__(
        self,
        newest: ProviderClient,
        previous: ProviderClient | None,
        *,
        on_refused: Callable[[], None],
    ) -> None:
        self._newest = newest
        self._previous = previous
        self._on_refused = on_refused
        self._passed_over_until = 0.0

    def complete(self, request: ModelRequest) -> ModelReply:
        return self.asked(
            lambda client, seconds: client.complete(replace(request, deadline_seconds=seconds)),
            deadline_seconds=request.deadline_seconds,
        )

    def models(self, *, deadline_seconds: float) -> list[str]:
        return self.asked(
            lambda client, seconds: client.models(deadline_seconds=seconds),
            deadline_seconds=deadline_seconds,
        )

    def count_tokens(self, request: ModelRequest) -> TokenCount:
        return self.asked(
            lambda client, seconds: client.count_tokens(replace(request, deadline_seconds=seconds)),
            deadline_seconds=request.deadline_seconds,
        )

    @property
    def batches(self) -> BatchClient:
        return _RotatingBatches(self)

    def asked(self, ask: Callable[[ProviderClient, float], T], *, deadline_seconds: float) -> T:
        """What `ask` gives for a client and the seconds that it has."""
        started = time.monotonic()
        first, second = self._in_turn()
        try:
            return ask(first, deadline_seconds)
        except ProviderError as error:
            if error.kind is not ProviderErrorKind.AUTH:
                raise
            self._note(first)
            left = deadline_seconds - (time.monotonic() - started)
            if second is None or left <= 0:
                raise
            refusal = error
        try:
            return ask(second, left)
        except ProviderError as error:
            if error.kind is ProviderErrorKind.AUTH:
                self._note(second)
                raise refusal from None
            raise

    def _in_turn(self) -> tuple[ProviderClient, ProviderClient | None]:
        if self._previous is not None and time.monotonic() < self._passed_over_until:
            return self._previous, self._newest
        return self._newest, self._previous

    def _note(self, refused: ProviderClient) -> None:
        if refused is self._newest:
            self._passed_over_until = time.monotonic() + PASSED_OVER_SECONDS
            self._on_refused()
        else:
            # Nothing to fall back on: the newest is as good as this one.
            self._passed_over_until = 0.0

    @property
    def newest(self) -> ProviderClient:
        return self._newest


class _RotatingBatches:
    """Batches with either key, since both are of one account."""

    def __init__(self, client: RotatingClient) -> None:
        self._client = client

    def size_of(self, request: ModelRequest) -> int:
        return self._client.newest.batches.size_of(request)

    def submit(
        self, key: str, requests: Mapping[str, ModelRequest], *, deadline_seconds: float
    ) -> str:
        return self._client.asked(
            lambda client, seconds: client.batches.submit(key, requests, deadline_seconds=seconds),
            deadline_seconds=deadline_seconds,
        )

    def find(self, sent: Sent, *, deadline_seconds: float) -> Found:
        return self._client.asked(
            lambda client, seconds: client.batches.find(sent, deadline_seconds=seconds),
            deadline_seconds=deadline_seconds,
        )

    def state(self, batch_id: str, *, deadline_seconds: float) -> BatchState:
        return self._client.asked(
            lambda client, seconds: client.batches.state(batch_id, deadline_seconds=seconds),
            deadline_seconds=deadline_seconds,
        )

    def answers(
        self, batch_id: str, requests: Mapping[str, ModelRequest], *, deadline_seconds: float
    ) -> list[BatchedAnswer]:
        return self._client.asked(
            lambda client, seconds: client.batches.answers(
                batch_id, requests, deadline_seconds=seconds
            ),
            deadline_seconds=deadline_seconds,
        )

    def cancel(self, batch_id: str, *, deadline_seconds: float) -> None:
        self._client.asked(
            lambda client, seconds: client.batches.cancel(batch_id, deadline_seconds=seconds),
            deadline_seconds=deadline_seconds,
        )
