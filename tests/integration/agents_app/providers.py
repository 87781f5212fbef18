"""Shared by the tests of providers: settings and requests that are valid as they stand."""

from agents_app.core.model import Message, ModelRequest
from agents_app.providers.base import ProviderKind, ProviderSettings, client_for

KEY = "sk-acme-0123456789abcdef"


def settings_for(kind, url, **changes):
    facts = {"name": kind, "kind": ProviderKind(kind), "base_url": url, "api_key": KEY}
    return ProviderSettings(**{**facts, **changes})


def client(kind, url, **changes):
    return client_for(settings_for(kind, url, **changes))


def request(text="Say hello.", **changes):
    facts = {
        "provider": "acme",
        "model": "mock-model",
        "messages": (Message("user", text),),
        "max_output_tokens": 50,
        "deadline_seconds": 10.0,
    }
    return ModelRequest(**{**facts, **changes})
