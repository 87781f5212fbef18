import pytest

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.roles import Role
from agents_app.providers.base import ProviderKind, ProviderSettings, client_for
from agents_app.providers.models import model_info

OPENAI = ProviderKind.OPENAI


def test_a_role_may_have_a_model_of_its_own():
    settings = ProviderSettings(
        name="openai", kind=OPENAI, default_model="small", models={"planner": "large"}
    )

    assert settings.model_for(Role.PLANNER) == "large"
    assert settings.model_for(Role.EXECUTOR) == "small"
    assert settings.model_for(None) == "small"


def test_settings_never_show_their_key():
    assert "secret" not in repr(ProviderSettings(name="a", kind=OPENAI, api_key="secret"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (ProviderSettings(name="a", kind=OPENAI), "no API key"),
        (ProviderSettings(name="a", kind=ProviderKind.ANTHROPIC), "no API key"),
        (ProviderSettings(name="a", kind=ProviderKind.LOCAL), "no address"),
        (ProviderSettings(name="a", kind=ProviderKind.COMPATIBLE, base_url="ftp://x"), "not an"),
        (ProviderSettings(name="a", kind=ProviderKind.COMPATIBLE, base_url="http://["), "not an"),
        (ProviderSettings(name="a", kind=ProviderKind.COMPATIBLE, base_url="https:///v1"), "not"),
        (ProviderSettings(name="a", kind=OPENAI, api_key="sk\nx"), "characters"),
        (ProviderSettings(name="a", kind=OPENAI, api_key="schlüssel"), "characters"),
    ],
)
def test_a_provider_that_cannot_work_says_why_without_a_call(settings, told):
    with pytest.raises(ProviderError, match=told) as caught:
        client_for(settings)

    assert caught.value.kind is ProviderErrorKind.NOT_CONFIGURED


def test_a_client_is_made_once_for_each_credential():
    first = ProviderSettings(name="openai", kind=OPENAI, api_key="key-of-acme")
    other = ProviderSettings(name="openai", kind=OPENAI, api_key="key-of-globex")

    assert client_for(first) is client_for(first)
    assert client_for(first) is not client_for(other)


def test_the_environment_tells_servers_nothing(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-platform")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-the-platform")
    client = client_for(ProviderSettings(name="openai", kind=OPENAI, api_key="key-env-test"))

    headers = client._client.default_headers
    assert not any("platform" in str(value) for value in headers.values())


@pytest.mark.parametrize(
    ("kind", "model", "parameters", "sent"),
    [
        ("openai", "gpt-4.1", {"temperature": 0.2, "top_k": 4}, {"temperature": 0.2}),
        (
            "openai",
            "o3",
            {"temperature": 0.2, "reasoning_effort": "low"},
            {"reasoning_effort": "low"},
        ),
        ("openai", "gpt-5.2", {"temperature": 0.2}, {}),
        ("openai", "gpt-5.2-chat-latest", {"temperature": 0.2}, {"temperature": 0.2}),
        ("anthropic", "claude-sonnet-4-5", {"seed": 1, "top_k": 4}, {"top_k": 4}),
        ("xai", "grok-4", {"presence_penalty": 1, "top_p": 0.5}, {"top_p": 0.5}),
        ("local", "smollm2", {"min_p": 0.1, "verbosity": "low"}, {"min_p": 0.1}),
    ],
)
def test_parameters_of_taste_are_dropped_where_unknown(kind, model, parameters, sent):
    assert model_info(ProviderKind(kind), model).fit(parameters, provider="acme") == sent


@pytest.mark.parametrize("name", ["model", "messages", "n", "max_tokens", "service_tier", "tools"])
@pytest.mark.parametrize("kind", list(ProviderKind))
def test_parameters_cannot_reach_what_is_priced(kind, name):
    with pytest.raises(ProviderError, match=name) as caught:
        model_info(kind, "any").fit({name: 2}, provider="acme")

    assert caught.value.kind is ProviderErrorKind.INVALID_REQUEST


def test_a_stop_word_is_refused_where_it_would_be_ignored():
    assert model_info(OPENAI, "o3").refused({"stop": "END", "seed": 1}) == ["stop"]


def test_context_windows_are_known_for_library_models():
    assert model_info(OPENAI, "gpt-5.2").context_window == 400_000
    assert model_info(ProviderKind.LOCAL, "smollm2").context_window is None
