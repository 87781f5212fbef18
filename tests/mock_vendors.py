"""A vendor's client, its SDK included, whose requests end in this process."""

import json
from typing import Any

import httpx2

from agents_app.core.model import Message, ModelReply, ModelRequest, ToolSpec
from agents_app.providers.base import ProviderKind, ProviderSettings, vendor_client

WEATHER = ToolSpec(
    name="get_weather",
    description="Get current temperature for a given location.",
    parameters={
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
        "additionalProperties": False,
    },
)


class MockVendor:
    """Gives `answer` to every request, and keeps in `sent` what it was asked."""

    def __init__(self, kind: str, answer: Any = None) -> None:
        self.answer = answer
        self.sent: list[dict[str, Any]] = []
        url = "http://vendor.invalid"
        client: Any = vendor_client(
            ProviderSettings(name=kind, kind=ProviderKind(kind), base_url=url, api_key="sk-test")
        )
        transport = httpx2.MockTransport(self._respond)
        client._client = client._client.with_options(http_client=httpx2.Client(transport=transport))
        self.kind = kind
        self.client = client

    def complete(self, *messages: Message, **changes: Any) -> ModelReply:
        facts = {"provider": self.kind, "model": "m", "messages": messages, "tools": (WEATHER,)}
        reply: ModelReply = self.client.complete(ModelRequest(**{**facts, **changes}))
        return reply

    def _respond(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(json.loads(request.content))
        return httpx2.Response(200, json=self.answer)
