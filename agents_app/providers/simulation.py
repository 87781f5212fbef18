"""How a simulated provider behaves: delays, failures, token counts, answers."""

import random
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from agents_app.core.errors import ProviderErrorKind
from agents_app.core.model import FinishReason

_CLOSED = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_Seconds = Annotated[float, Field(ge=0)]
_Tokens = Annotated[int, Field(ge=0, le=1_000_000)]


class Fixed(BaseModel):
    model_config = _CLOSED
    distribution: Literal["fixed"]
    seconds: _Seconds

    def draw(self, rng: random.Random) -> float:
        return self.seconds


class Uniform(BaseModel):
    model_config = _CLOSED
    distribution: Literal["uniform"]
    low: _Seconds
    high: _Seconds

    def draw(self, rng: random.Random) -> float:
        return rng.uniform(self.low, self.high)


class LogNormal(BaseModel):
    """Half of the calls take less than `median`; `sigma` is the spread of the logarithm."""

    model_config = _CLOSED
    distribution: Literal["lognormal"]
    median: Annotated[float, Field(gt=0)]
    sigma: Annotated[float, Field(ge=0, le=5)] = 0.5

    def draw(self, rng: random.Random) -> float:
        return self.median * rng.lognormvariate(0, self.sigma)


Latency = Annotated[Fixed | Uniform | LogNormal, Field(discriminator="distribution")]


class ScriptedCall(BaseModel):
    model_config = _CLOSED
    name: str
    arguments: JsonValue = Field(default_factory=dict)


class ScriptedTurn(BaseModel):
    """A turn ends as `finish_reason` says, else as it looks: with calls, the model waits."""

    model_config = _CLOSED
    text: str = ""
    tool_calls: tuple[ScriptedCall, ...] = ()
    finish_reason: FinishReason | None = None


class SimulatedOptions(BaseModel):
    """How the simulated provider behaves, set for the provider or in a step's parameters.

    `failures` gives the share of calls that fail in each way. `fail_attempts` says how the
    first attempts of every call end, one entry for each; it comes before `failures`.
    `output_tokens` is a number or a range; `text` or `output` fix the answer instead, and `script`
    the answers of a whole conversation, turn by turn; the last one stands for all further ones.
    Which is due follows from the answers that a request holds. `batch_seconds` is how long a batch
    takes, and `batch_expires` has the request's batch end without having come to it.
    """

    model_config = _CLOSED
    seed: int = 0
    latency: Latency | _Seconds = 0.0
    failures: dict[ProviderErrorKind, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict
    )
    fail_attempts: tuple[ProviderErrorKind | Literal["ok"], ...] = ()
    retry_after_seconds: _Seconds | None = None
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | tuple[_Tokens, _Tokens] = 20
    cached_tokens: _Tokens = 0
    reasoning_tokens: _Tokens = 0
    text: str | None = None
    output: JsonValue = None
    batch_seconds: _Seconds = 1.0
    batch_expires: bool = False
    script: Annotated[tuple[ScriptedTurn, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _shares_fit(self) -> "SimulatedOptions":
        if sum(self.failures.values()) > 1:
            raise ValueError("the shares of failures add up to more than 1")
        if isinstance(self.output_tokens, tuple) and self.output_tokens[0] > self.output_tokens[1]:
            raise ValueError("the range of output tokens is upside down")
        return self
