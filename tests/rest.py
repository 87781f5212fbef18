"""Calling the REST interface, and workflows that need no model to be defined and run."""

import json
from typing import Any

from django.http import HttpResponse
from django.test import Client

from tests.world import World

ROOT = "/api/v1/"
YAML = """\
muster: 1
name: greet
description: Greets, then counts the letters.
inputs:
  type: object
  required: [name]
  properties: {name: {type: string, maxLength: 20}}
steps:
  hello:
    agent: {type: tool, tool: echo, arguments: {value: "Hello ${input.name}"}}
  both:
    needs: [hello]
    agent: {type: aggregator, mode: collect}
"""


def url(path: str) -> str:
    return path if path.startswith(("/", "http")) else ROOT + path


def call(client: Client, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
    """A call with a JSON body, or with a text as YAML."""
    kind = "application/yaml" if isinstance(body, str) else "application/json"
    return client.generic(
        method,
        url(path),
        data=body if isinstance(body, str) else _json(body),
        content_type=kind,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def post(client: Client, path: str, body: Any = None, **headers: str) -> HttpResponse:
    return call(client, "POST", path, body, **headers)


def get(client: Client, path: str, **headers: str) -> HttpResponse:
    return call(client, "GET", path, **headers)


def made(answer: HttpResponse) -> dict[str, Any]:
    """The body of an answer that must be a success."""
    assert 200 <= answer.status_code < 300, answer.content
    return answer.json()


def problems(answer: HttpResponse) -> set[tuple[str, str]]:
    """Place and code of every problem in a refusal."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.content
    return {(error["loc"], error["code"]) for error in answer.json()["errors"]}


def published(world: World, yaml: str = YAML) -> dict[str, Any]:
    """A workflow with a version, as the API shows it."""
    client = world.client()
    workflow = made(post(client, "workflows", yaml))
    made(post(client, f"workflows/{workflow['id']}/publish"))
    return made(get(client, f"workflows/{workflow['id']}"))


def started(world: World, **body: Any) -> dict[str, Any]:
    """A run that nobody works on: no worker hears of it in these tests."""
    client = world.client()
    return made(post(client, "runs", {"workflow": "greet", "input": {"name": "Ada"}, **body}))


def _json(body: Any) -> str:

    return "" if body is None else json.dumps(body)
