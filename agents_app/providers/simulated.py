"""A provider that is none: answers made up here, with set delays, failures and token counts.

Everything follows from the seed and the request, its attempt number included. So two runs of
the same calls are alike whatever their order, and a retry gets a draw of its own.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import accumulate
from typing import Any

from pydantic import ValidationError

from agents_app.core import values
from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import FinishReason, ModelReply, ModelRequest, TokenCount, ToolCall
from agents_app.providers import transport
from agents_app.providers.base import ProviderKind, ProviderSettings
from agents_app.providers.batches import (
    BatchedAnswer,
    BatchStage,
    BatchState,
    Found,
    Sent,
    expired,
)
from agents_app.providers.counting import estimated_count
from agents_app.providers.hearing import listener
from agents_app.providers.models import model_info
from agents_app.providers.sampling import WORDS, sample_of
from agents_app.providers.simulation import ScriptedTurn, SimulatedOptions
from agents_app.providers.tool_calls import arguments_text, calls_of, finish_of
from costs.core.pricing import estimate_tokens
from costs.core.usage import Usage
from tenants.kernel import clock

# How long a piece of an answer that is streamed takes.
_PIECE_SECONDS = 0.05


class SimulatedClient:
    def __init__(self, settings: ProviderSettings) -> None:
        self._name = settings.name
        self._defaults = settings.options

    def complete(self, request: ModelRequest) -> ModelReply:
        options = self.options_of(request)
        rng = _random_for(request, seed=options.seed)
        latency = _latency(options, rng)
        failure = _failure(options, rng, attempt=request.attempt)
        if failure is ProviderErrorKind.TIMEOUT or latency > request.deadline_seconds:
            transport.wait(request.deadline_seconds)
            raise self._error(ProviderErrorKind.TIMEOUT, options)
        if failure is not None:
            is_whole = transport.wait(latency)
            raise self._error(failure if is_whole else ProviderErrorKind.TIMEOUT, options)
        reply = self._reply(request, options=options, rng=rng, latency_seconds=latency)
        if not _spoken(reply.text, seconds=latency):
            raise self._error(ProviderErrorKind.TIMEOUT, options)
        return reply

    def models(self, *, deadline_seconds: float) -> list[str]:
        return []

    def count_tokens(self, request: ModelRequest) -> TokenCount:
        return estimated_count(request)

    @property
    def batches(self) -> "SimulatedBatches":
        return SimulatedBatches(self)

    def options_of(self, request: ModelRequest) -> SimulatedOptions:
        info = model_info(ProviderKind.SIMULATED, request.model)
        own = info.fit(request.parameters, provider=self._name)
        # Nothing made up ever stops early, so there is nothing to cut.
        own.pop("stop", None)
        try:
            return SimulatedOptions.model_validate({**self._defaults, **own})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in problem["loc"]) or "options"
            raise ProviderError(
                ProviderErrorKind.INVALID_REQUEST, f"{place}: {problem['msg']}", self._name
            ) from error

    def _error(self, kind: ProviderErrorKind, options: SimulatedOptions) -> ProviderError:
        in_doubt = kind in (ProviderErrorKind.TIMEOUT, ProviderErrorKind.CONNECTION)
        wait = options.retry_after_seconds
        return ProviderError(kind, "simulated failure", self._name, None, wait, in_doubt)

    def _reply(
        self,
        request: ModelRequest,
        *,
        options: SimulatedOptions,
        rng: random.Random,
        latency_seconds: float,
    ) -> ModelReply:
        # As with real models, thinking counts against the bound.
        reasoning_tokens = min(options.reasoning_tokens, request.max_output_tokens)
        answer = _answer(request, options, rng, most=request.max_output_tokens - reasoning_tokens)
        asked = options.input_tokens
        input_tokens = estimate_tokens(request.prompt_text) if asked is None else asked
        return ModelReply(
            text=answer.text,
            tool_calls=answer.tool_calls,
            finish_reason=answer.finish_reason,
            usage=Usage(
                input_tokens=input_tokens,
                output_tokens=answer.tokens + reasoning_tokens,
                cached_tokens=min(options.cached_tokens, input_tokens),
                reasoning_tokens=reasoning_tokens,
            ),
            provider=self._name,
            model=request.model,
            request_id=f"sim-{rng.getrandbits(64):016x}",
            latency_ms=round(latency_seconds * 1000),
        )


class SimulatedBatches:
    """Batches that nobody keeps: their ids say when they are over, and answers are made up then.

    So any process may ask for them. One that was sent and not heard of is sent again, at no cost.
    """

    def __init__(self, client: SimulatedClient) -> None:
        self._client = client

    def size_of(self, request: ModelRequest) -> int:
        self._client.options_of(request)
        return len(request.prompt_text.encode("utf-8", errors="replace"))

    def submit(
        self, key: str, requests: Mapping[str, ModelRequest], *, deadline_seconds: float
    ) -> str:
        options = map(self._client.options_of, requests.values())
        over = clock.now().timestamp() + max(each.batch_seconds for each in options)
        return f"sim-{over:.3f}-{key}"

    def find(self, sent: Sent, *, deadline_seconds: float) -> Found:
        return Found(batch_id=None)

    def state(self, batch_id: str, *, deadline_seconds: float) -> BatchState:
        is_over = clock.now().timestamp() >= float(batch_id.split("-")[1])
        return BatchState(stage=BatchStage.OVER if is_over else BatchStage.WORKING)

    def answers(
        self, batch_id: str, requests: Mapping[str, ModelRequest], *, deadline_seconds: float
    ) -> list[BatchedAnswer]:
        return [
            BatchedAnswer(id=id, outcome=self._outcome(request)) for id, request in requests.items()
        ]

    def cancel(self, batch_id: str, *, deadline_seconds: float) -> None:
        """It ends when it ends."""

    def _outcome(self, request: ModelRequest) -> ModelReply | ProviderError:
        if self._client.options_of(request).batch_expires:
            return expired(request.provider)
        # How long an answer takes is the batch's to say.
        at_once = {**request.parameters, "latency": 0.0}
        try:
            return self._client.complete(replace(request, parameters=at_once))
        except ProviderError as error:
            return error


def _spoken(text: str, *, seconds: float) -> bool:
    """Say the text evenly over its time to whoever hears it; False if it was cut short."""
    heard = listener()
    if heard is None or not text:
        return transport.wait(seconds)
    pieces = max(1, min(len(text), int(seconds / _PIECE_SECONDS)))
    for number in range(pieces):
        if not transport.wait(seconds / pieces):
            return False
        heard(text[number * len(text) // pieces : (number + 1) * len(text) // pieces])
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    text: str
    finish_reason: FinishReason
    tokens: int
    tool_calls: tuple[ToolCall, ...] = ()


def _random_for(request: ModelRequest, *, seed: int) -> random.Random:
    content: dict[str, Any] = {
        "seed": seed,
        "model": request.model,
        "system": request.system,
        "messages": [[message.role, message.text] for message in request.messages],
        "attempt": request.attempt,
    }
    digest = sha256(values.dump(content).encode("utf-8", errors="surrogatepass")).digest()
    return random.Random(digest)  # noqa: S311  # repeatable on purpose, and no secret


def _latency(options: SimulatedOptions, rng: random.Random) -> float:
    latency = options.latency
    return latency if isinstance(latency, float) else latency.draw(rng)


def _failure(
    options: SimulatedOptions, rng: random.Random, *, attempt: int
) -> ProviderErrorKind | None:
    if attempt <= len(options.fail_attempts):
        scripted = options.fail_attempts[attempt - 1]
        return None if scripted == "ok" else scripted
    drawn = rng.random()
    for kind, share in options.failures.items():
        if drawn < share:
            return kind
        drawn -= share
    return None


def _answer(
    request: ModelRequest, options: SimulatedOptions, rng: random.Random, *, most: int
) -> _Answer:
    """What is said with at most so many tokens."""
    if options.script is not None:
        return _scripted(options.script, request, most=most)
    words = _words(request, options, rng, most=most + 1)
    cut = words[:most]
    return _Answer(
        text="".join(cut),
        finish_reason=FinishReason.LENGTH if len(cut) < len(words) else FinishReason.STOP,
        tokens=len(cut),
    )


def _scripted(script: Sequence[ScriptedTurn], request: ModelRequest, *, most: int) -> _Answer:
    answered = sum(message.role == "assistant" for message in request.messages)
    turn = script[min(answered, len(script) - 1)]
    calls = calls_of(
        ((None, call.name, call.arguments) for call in turn.tool_calls), request=request
    )
    words = _pieces(turn.text)
    # Of calls, the first that does not fit is lost with all behind it.
    tokens = [len(words), *(len(_pieces(call.name + arguments_text(call))) for call in calls)]
    ends = list(accumulate(tokens))
    fitting = sum(end <= most for end in ends)
    if fitting == len(ends):
        ending = turn.finish_reason or finish_of(FinishReason.STOP, calls)
        return _Answer(text=turn.text, tool_calls=calls, finish_reason=ending, tokens=ends[-1])
    return _Answer(
        text="".join(words[:most]),
        tool_calls=calls[: max(0, fitting - 1)],
        finish_reason=FinishReason.LENGTH,
        tokens=most,
    )


def _words(
    request: ModelRequest, options: SimulatedOptions, rng: random.Random, *, most: int
) -> list[str]:
    """The answer in pieces of one token each; drawn words at most as many as `most`."""
    fixed = options.text
    if fixed is None and options.output is not None:
        fixed = values.dump(options.output)
    if fixed is None and request.output_schema is not None:
        fixed = values.dump(sample_of(request.output_schema, rng))
    if fixed is not None:
        return _pieces(fixed)
    count = options.output_tokens
    total = min(most, count if isinstance(count, int) else rng.randint(*count))
    return [rng.choice(WORDS) if place == 0 else f" {rng.choice(WORDS)}" for place in range(total)]


def _pieces(text: str) -> list[str]:
    return [text[start : start + 4] for start in range(0, len(text), 4)]
