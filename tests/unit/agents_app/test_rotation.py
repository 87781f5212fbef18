import pytest

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import FinishReason, Message, ModelReply, ModelRequest
from agents_app.providers import rotation
from agents_app.providers.rotation import RotatingClient
from costs.core.usage import Usage

REQUEST = ModelRequest(provider="p", model="m", messages=(Message("user", "Hi"),))


class Keyed:
    """A client whose key is good, or fails in one way."""

    def __init__(self, name: str, fails: ProviderErrorKind | None = None) -> None:
        self.name, self.fails, self.calls = name, fails, 0

    def complete(self, request: ModelRequest) -> ModelReply:
        self.calls += 1
        if self.fails:
            raise ProviderError(self.fails, self.name)
        usage = Usage(input_tokens=1, output_tokens=1)
        facts = {"finish_reason": FinishReason.STOP, "usage": usage}
        return ModelReply(text=self.name, provider="p", model="m", **facts)

    def models(self, *, deadline_seconds: float) -> list[str]:
        return [self.complete(REQUEST).text]


def rotating(newest: Keyed, previous: Keyed | None) -> tuple[RotatingClient, list[str]]:
    refusals: list[str] = []
    return RotatingClient(newest, previous, on_refused=lambda: refusals.append("x")), refusals


def test_newest_key_is_asked_with() -> None:
    previous = Keyed("old")
    client, refusals = rotating(Keyed("new"), previous)

    assert client.complete(REQUEST).text == "new"
    assert client.models(deadline_seconds=1) == ["new"]
    assert (previous.calls, refusals) == (0, [])


def test_refused_key_gives_way_to_the_one_before_and_is_told_of() -> None:
    client, refusals = rotating(Keyed("new", ProviderErrorKind.AUTH), Keyed("old"))

    assert client.complete(REQUEST).text == "old"
    assert refusals == ["x"]


def test_refused_key_is_not_tried_first_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = Keyed("new", ProviderErrorKind.AUTH)
    client, _ = rotating(newest, Keyed("old"))
    for _ in range(3):
        client.complete(REQUEST)
    assert newest.calls == 1

    newest.fails = None
    monkeypatch.setattr(client, "_passed_over_until", 0.0)

    assert client.complete(REQUEST).text == "new"


def test_retired_elsewhere_old_key_gives_way_to_the_newest() -> None:
    newest, previous = Keyed("new", ProviderErrorKind.AUTH), Keyed("old")
    client, _ = rotating(newest, previous)
    client.complete(REQUEST)
    newest.fails, previous.fails = None, ProviderErrorKind.AUTH

    assert client.complete(REQUEST).text == "new"
    assert client.complete(REQUEST).text == "new"
    assert previous.calls == 2


def test_two_refused_keys_fail_as_the_first_did() -> None:
    client, _ = rotating(Keyed("new", ProviderErrorKind.AUTH), Keyed("old", ProviderErrorKind.AUTH))

    with pytest.raises(ProviderError, match="new"):
        client.complete(REQUEST)


@pytest.mark.parametrize("kind", sorted(set(ProviderErrorKind) - {ProviderErrorKind.AUTH}))
def test_other_failures_are_not_asked_again(kind: ProviderErrorKind) -> None:
    previous = Keyed("old")
    client, refusals = rotating(Keyed("new", kind), previous)

    with pytest.raises(ProviderError) as caught:
        client.complete(REQUEST)

    assert (caught.value.kind, previous.calls, refusals) == (kind, 0, [])


def test_second_key_has_what_is_left_of_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 100.0, 130.0, 131.0])
    monkeypatch.setattr(rotation.time, "monotonic", lambda: next(times, 131.0))
    previous = Keyed("old")
    client, _ = rotating(Keyed("new", ProviderErrorKind.AUTH), previous)

    with pytest.raises(ProviderError, match="new"):
        client.complete(REQUEST)

    assert previous.calls == 0


def test_only_key_that_is_refused_is_told_of() -> None:
    client, refusals = rotating(Keyed("only", ProviderErrorKind.AUTH), None)

    with pytest.raises(ProviderError):
        client.complete(REQUEST)

    assert refusals == ["x"]
