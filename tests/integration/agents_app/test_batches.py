"""Batches over both protocols, with a server that was written elsewhere."""

from datetime import timedelta
from uuid import uuid4

import pytest

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import Message, ModelReply
from agents_app.providers.batches import BatchStage, Sent
from tenants.kernel.clock import now
from tests.eventually import eventually
from tests.integration.agents_app.providers import client, request
from tests.model_servers import batches_over_in

SECONDS = 5.0
REQUESTS = {
    name: request(messages=(Message("user", f"Tell me of {name}"),)) for name in ("tea", "rain")
}


@pytest.fixture(params=["openai", "anthropic"])
def batches(request, llmock_server):
    with batches_over_in(0):
        yield client(request.param, llmock_server.base_url(request.param)).batches


def asked(*names):
    """Requests under ids that nobody else has."""
    return {f"{uuid4()}": REQUESTS[name] for name in names or REQUESTS}


def submitted(batches, requests, key="key"):
    return batches.submit(key, requests, deadline_seconds=SECONDS)


def is_over(batches, batch_id):
    return batches.state(batch_id, deadline_seconds=SECONDS).stage is BatchStage.OVER


def found(batches, key, requests, known=frozenset()):
    began = now() - timedelta(seconds=1)
    sent = Sent(key=key, began_at=began, ids=frozenset(requests), known=known)
    return batches.find(sent, deadline_seconds=SECONDS)


def test_every_request_of_a_batch_is_answered_under_its_id(batches):
    requests = asked()
    batch_id = submitted(batches, requests)
    eventually(lambda: is_over(batches, batch_id))

    answers = batches.answers(batch_id, requests, deadline_seconds=SECONDS)

    outcomes = {answer.id: answer.outcome for answer in answers}
    assert outcomes.keys() == requests.keys()
    assert all(isinstance(outcome, ModelReply) for outcome in outcomes.values())
    assert all(outcome.text and outcome.usage.output_tokens for outcome in outcomes.values())


def test_answers_to_what_was_not_asked_for_are_left_out(batches):
    requests = asked("tea", "rain")
    batch_id = submitted(batches, requests)
    eventually(lambda: is_over(batches, batch_id))
    (first, *_) = requests.items()

    answers = batches.answers(batch_id, dict([first]), deadline_seconds=SECONDS)

    assert [answer.id for answer in answers] == [first[0]]


def test_batch_that_came_in_is_found_among_others(batches):
    requests, others = asked(), asked()
    key = str(uuid4())
    other = submitted(batches, others, str(uuid4()))
    batch_id = submitted(batches, requests, key)
    eventually(lambda: is_over(batches, batch_id) and is_over(batches, other))

    assert found(batches, key, requests).batch_id == batch_id


def test_batch_that_never_came_in_is_not_found(batches):
    others = asked()
    eventually(lambda: is_over(batches, submitted(batches, others)))

    answer = found(batches, str(uuid4()), asked())

    assert (answer.batch_id, answer.is_certain) == (None, True)


def test_nobody_can_tell_whose_a_batch_is_that_names_no_key_and_is_not_over(
    llmock_server,
):
    batches = client("anthropic", llmock_server.base_url("anthropic")).batches
    requests = asked("tea", "tea", "rain")
    with batches_over_in(600):
        batch_id = submitted(batches, requests)

    assert not found(batches, "key", requests).is_certain
    known = frozenset({batch_id})
    assert found(batches, "key", requests, known).is_certain


def test_cancelled_batch_is_over(batches):
    with batches_over_in(600):
        batch_id = submitted(batches, asked())

    batches.cancel(batch_id, deadline_seconds=SECONDS)

    assert is_over(batches, batch_id)


def test_unknown_batch_is_an_error(batches):
    with pytest.raises(ProviderError) as caught:
        batches.state("batch_0", deadline_seconds=SECONDS)

    assert caught.value.kind is ProviderErrorKind.NOT_FOUND


def test_size_is_that_of_the_request_as_it_is_sent(batches):
    short, long = REQUESTS["tea"], request(messages=(Message("user", "x" * 10_000),))

    assert batches.size_of(long) - batches.size_of(short) > 9_000


def test_what_the_model_would_not_take_is_refused_before_it_is_sent(batches):
    with pytest.raises(ProviderError) as caught:
        batches.size_of(request(parameters={"n": 2}))

    assert caught.value.kind is ProviderErrorKind.INVALID_REQUEST
