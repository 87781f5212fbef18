"""Answers that have to fit: over both protocols, and from a real model that may only fit."""

import json

import pytest
from llmock.scenarios import Reply

from agents_app.core.agent import AgentConfig, Ports
from agents_app.core.errors import OutputInvalidError
from agents_app.runtime import run_agent
from agents_app.tools.builtin import BUILTIN_TOOLS
from tests.integration.agents_app.providers import client
from tests.model_servers import MODEL_NAME

ROUTER = {"type": "router", "routes": ["refund", "answer"], "prompt": "I want my money back."}
JUDGE = {"type": "evaluator", "criteria": "It is short."}
VERDICT = {"feedback": "Short.", "score": 0.9, "accepted": True}


def run(answers, *, inputs=None, **config):
    ports = Ports(model=answers, tools=BUILTIN_TOOLS)
    return run_agent(AgentConfig(**config), inputs=inputs or {}, ports=ports).output


@pytest.fixture(params=["openai", "anthropic", "xai"])
def ask(request, llmock_server):
    def ask(*texts, **config):
        llmock_server.state.scenarios.add(*(Reply(text=text) for text in texts))
        model = client(request.param, llmock_server.base_url(request.param))
        return run(model, provider=request.param, model="mock-model", **config)

    return ask


def test_router_gets_over_a_route_that_does_not_exist(ask):
    assert ask('{"route": "cash"}', '{"route": "refund"}', **ROUTER) == {"route": "refund"}


def test_evaluator_is_understood_where_the_model_talks_around_its_verdict(ask):
    said = f"Well, let me see.\n```json\n{json.dumps(VERDICT)}\n```"

    assert ask(said, inputs={"write": "Hi."}, **JUDGE) == {
        "accepted": True,
        "score": 0.9,
        "feedback": "Short.",
    }


def test_model_that_never_answers_in_the_form_is_given_up(ask):
    with pytest.raises(OutputInvalidError, match="not JSON"):
        ask("No.", "Never.", "I said no.", **ROUTER)


@pytest.fixture
def local(smollm2_url):
    return client("local", f"{smollm2_url}/v1")


def test_real_model_chooses_a_route(local):
    route = run(local, provider="local", model=MODEL_NAME, **ROUTER)

    assert route["route"] in ROUTER["routes"]


def test_real_model_gives_a_verdict(local):
    parameters = {"temperature": 0, "max_output_tokens": 400}
    config = {"provider": "local", "model": MODEL_NAME, "threshold": 0.5, "parameters": parameters}

    verdict = run(local, inputs={"write": "Hello."}, **config, **JUDGE)

    assert 0 <= verdict["score"] <= 1
    assert verdict["accepted"] is (verdict["score"] >= 0.5)
