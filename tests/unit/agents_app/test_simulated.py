import time
from collections import Counter
from dataclasses import replace

import pytest

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import FinishReason, Message, ModelRequest
from agents_app.core.structured import parse_output
from agents_app.providers.base import ProviderKind, ProviderSettings, client_for
from agents_app.providers.check import check
from agents_app.providers.transport import cut_short_when

ASK = ModelRequest(provider="sim", model="m", messages=(Message("user", "x" * 30),))


def client(**options):
    return client_for(ProviderSettings(name="sim", kind=ProviderKind.SIMULATED, options=options))


def ask(index):
    return replace(ASK, messages=(Message("user", f"question {index}"),))


def outcome_of(sim, request):
    try:
        return sim.complete(request).text
    except ProviderError as error:
        return error.kind


def test_answers_follow_from_seed_and_request_in_any_order():
    requests = [ask(index) for index in range(20)]
    forward = [outcome_of(client(seed=7), request) for request in requests]
    backward = [outcome_of(client(seed=7), request) for request in reversed(requests)]

    assert forward == backward[::-1]
    assert forward != [outcome_of(client(seed=8), request) for request in requests]


def test_failures_come_at_their_share():
    sim = client(failures={"rate_limited": 0.2, "server": 0.1})

    seen = Counter(
        outcome
        for index in range(1000)
        if isinstance(outcome := outcome_of(sim, ask(index)), ProviderErrorKind)
    )

    assert 160 <= seen[ProviderErrorKind.RATE_LIMITED] <= 240
    assert 70 <= seen[ProviderErrorKind.SERVER] <= 130


def test_a_retry_has_a_draw_of_its_own():
    sim = client(failures={"server": 0.5})

    outcomes = {
        outcome_of(sim, replace(ASK, attempt=number)) == "server" for number in range(1, 30)
    }

    assert outcomes == {True, False}


def test_scripted_failures_end_with_the_list():
    sim = client(fail_attempts=["overloaded", "ok", "auth"], failures={"server": 1.0})

    kinds = [outcome_of(sim, replace(ASK, attempt=number)) for number in (1, 3, 4)]

    assert kinds == ["overloaded", "auth", "server"]
    assert sim.complete(replace(ASK, attempt=2)).text


def test_a_slow_answer_is_cut_at_the_deadline_and_stays_in_doubt():
    sim = client(latency={"distribution": "fixed", "seconds": 60})
    started = time.monotonic()

    with pytest.raises(ProviderError) as caught:
        sim.complete(replace(ASK, deadline_seconds=0.05))

    assert time.monotonic() - started < 5
    assert (caught.value.kind, caught.value.in_doubt) == (ProviderErrorKind.TIMEOUT, True)


@pytest.mark.parametrize(
    "latency",
    [
        0.01,
        {"distribution": "uniform", "low": 0.005, "high": 0.015},
        {"distribution": "lognormal", "median": 0.01, "sigma": 0.1},
    ],
)
def test_latency_is_waited_and_reported(latency):
    started = time.monotonic()

    reply = client(latency=latency).complete(ASK)

    assert reply.latency_ms >= 4
    assert (time.monotonic() - started) * 1000 >= reply.latency_ms - 2


def test_token_counts_are_as_set():
    reply = client(
        output_tokens=5, input_tokens=100, cached_tokens=60, reasoning_tokens=3
    ).complete(ASK)

    usage = reply.usage
    assert len(reply.text.split()) == 5
    assert (usage.input_tokens, usage.cached_tokens) == (100, 60)
    assert (usage.output_tokens, usage.reasoning_tokens) == (8, 3)


def test_output_is_bounded_by_the_request():
    reply = client(output_tokens=[50, 60]).complete(replace(ASK, max_output_tokens=10))

    assert reply.finish_reason is FinishReason.LENGTH
    assert reply.usage.output_tokens == 10


def test_thinking_counts_against_the_bound():
    usage = client(reasoning_tokens=8).complete(replace(ASK, max_output_tokens=10)).usage

    assert (usage.output_tokens, usage.reasoning_tokens) == (10, 8)


def test_a_step_overrides_the_provider():
    reply = client(text="provider").complete(replace(ASK, parameters={"text": "step"}))

    assert reply.text == "step"


def test_an_answer_fits_a_plain_schema():
    schema = {
        "type": "object",
        "required": ["tags", "score"],
        "additionalProperties": False,
        "properties": {
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1},
            "score": {"type": "integer", "minimum": 5, "maximum": 6},
            "done": {"type": "boolean"},
            "note": {"type": ["string", "null"]},
        },
    }

    reply = client().complete(replace(ASK, output_schema=schema))

    assert set(parse_output(reply.text, schema)) == {"tags", "score", "done", "note"}


def test_a_schema_cannot_blow_an_answer_up():
    schema = {"type": "string"}
    for _ in range(40):
        schema = {"type": "array", "minItems": 10**9, "items": schema}

    assert len(client().complete(replace(ASK, output_schema=schema)).text) < 100_000


@pytest.mark.parametrize(
    "options",
    [
        {"latency": -1},
        {"latency": float("inf")},
        {"latency": {"distribution": "zipf"}},
        {"failures": {"server": 0.7, "timeout": 0.7}},
        {"failures": {"sleepy": 0.1}},
        {"output_tokens": [9, 3]},
        {"output_tokens": 10**9},
    ],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ProviderError) as caught:
        client(**options).complete(ASK)

    assert caught.value.kind is ProviderErrorKind.INVALID_REQUEST


def test_it_passes_its_check():
    settings = ProviderSettings(name="sim", kind=ProviderKind.SIMULATED, default_model="m")

    result = check(settings)

    assert (result.reachable, result.ok, result.model) == (True, True, "m")


def test_call_that_is_no_longer_wanted_breaks_off_in_doubt():
    began = time.monotonic()

    with cut_short_when(lambda: True), pytest.raises(ProviderError) as failed:
        client(latency=30.0).complete(replace(ASK, deadline_seconds=60))

    assert failed.value.in_doubt
    assert time.monotonic() - began < 5
