"""Model providers that packages bring: the guide's example, and what is broken about others."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from agents_app.plugins import registry
from agents_app.providers.check import check
from costs.models import CostEntry, TenantPrice
from orchestrator.execution.providers import provider_settings
from orchestrator.settings.env import package_providers
from tests.e2e.stories import start
from tests.engine_driver import drain, step_of
from tests.rest import get, made, post
from tests.world import World

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "providers.md"
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
HEAD = EXAMPLE.partition("class Parrot(")[0]
USES = ("orchestrator", "planner", "executor", "reviewer", "simple", "moderate", "complex")
KEY = "parrot-key-0123456789"


class Parrot(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        is_known = self.headers["Authorization"] == f"Bearer {KEY}"
        body = b'{"said": "hello", "read": 3, "written": 2}' if is_known else b'{"error": "who?"}'
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Parrot)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def nothing_kept() -> Iterator[None]:
    """Comes first, and so ends after the settings are as they were."""
    yield
    registry.forget_plugins()
    provider_settings.cache_clear()


@pytest.fixture
def install(
    nothing_kept: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any, address: str
) -> Iterator[Callable[..., None]]:
    """Puts packages where Python looks for them, as they are when they are installed."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def installed(**packages: tuple[str, str]) -> None:
        for package, (points, code) in packages.items():
            (tmp_path / f"{package}.py").write_text(code)
            about = tmp_path / f"{package}-1.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
            (about / "entry_points.txt").write_text(f"[muster.providers]\n{points}\n")
        given = {"api_key": KEY, "base_url": address, "model": "grey"}
        given |= {f"model_{use}": "" for use in USES}
        known = dict(settings.MUSTER_PROVIDERS)
        settings.MUSTER_PROVIDERS = {**dict.fromkeys(package_providers(), given), **known}
        registry.forget_plugins()
        provider_settings.cache_clear()

    before = set(sys.modules)
    yield installed
    for name in set(sys.modules) - before:
        if name.startswith("models_of_"):
            del sys.modules[name]


def parrot() -> tuple[str, str]:
    return "parrot = models_of_parrot:Parrot", EXAMPLE


def test_the_guides_example_is_short() -> None:
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) < 30


def test_packages_provider_serves_a_tenant(acme: World, install: Callable[..., None]) -> None:
    install(models_of_parrot=parrot())
    credential = {"name": "parrots", "provider": "parrot", "secret": KEY}
    price = {"valid_from": "2026-01-01", "input_usd": 1, "output_usd": 1}
    made(post(acme.client(), "credentials", credential))
    limit = {"scope": "tenant", "provider": "parrot", "model": "grey", "unit": "requests"}
    with acme.scope():
        TenantPrice.objects.create(provider="parrot", model="grey", **price)

    agent = {"type": "prompt", "provider": "parrot"}
    run = drain(acme, start(acme, {"a": {"agent": agent, "prompt": "hi"}}))

    assert (run.status, run.output, run.cost_nano) == ("completed", "hello", 5_000)
    with acme.scope():
        assert CostEntry.objects.get(run_id=run.id).provider == "parrot"
    made(post(acme.client(), "rate-limits", {**limit, "period": "day", "limit": 9}))


def test_check_asks_it_and_tells_a_wrong_key(install: Callable[..., None]) -> None:
    install(models_of_parrot=parrot())
    known = provider_settings()["parrot"]

    assert check(known).ok
    refused = check(replace(known, api_key="another-key"))
    assert (refused.reachable, refused.ok) == (True, False)
    assert "no API key" in check(replace(known, api_key="")).detail


def test_address_of_a_tenant_leads_into_no_private_network(
    install: Callable[..., None], settings: Any
) -> None:
    install(models_of_parrot=parrot())
    settings.MUSTER_PRIVATE_NETWORKS = []

    named_by_a_tenant = check(replace(provider_settings()["parrot"], is_guarded=True))

    assert (named_by_a_tenant.reachable, named_by_a_tenant.ok) == (False, False)
    assert "leads into a private network" in named_by_a_tenant.detail


def test_without_a_price_a_workflow_is_refused(acme: World, install: Callable[..., None]) -> None:
    install(models_of_parrot=parrot())
    made(post(acme.client(), "credentials", {"name": "p", "provider": "parrot", "secret": KEY}))
    agent = {"type": "prompt", "provider": "parrot", "model": "grey"}
    spec = {"name": "s", "steps": {"a": {"agent": agent, "prompt": "x"}}}

    (found,) = made(post(acme.client(), "workflows/validate", spec))["errors"]

    assert found["code"] == "unknown_model"


def test_what_its_client_raises_fails_the_step_alone(
    acme: World, install: Callable[..., None]
) -> None:
    code = EXAMPLE.replace('text=answer["said"]', 'text=answer["sung"]')
    install(models_of_parrot=("parrot = models_of_parrot:Parrot", code))
    made(post(acme.client(), "credentials", {"name": "p", "provider": "parrot", "secret": KEY}))
    price = {"valid_from": "2026-01-01", "input_usd": 1, "output_usd": 1}
    with acme.scope():
        TenantPrice.objects.create(provider="parrot", model="grey", **price)

    agent = {"type": "prompt", "provider": "parrot"}
    run_id = start(acme, {"a": {"agent": agent, "prompt": "hi"}})

    assert drain(acme, run_id).status == "failed"
    error = step_of(acme, run_id, "a").error
    assert error["code"] == "provider_error"
    assert "the provider's package failed: KeyError: 'sung'" in error["message"]
    assert KEY not in error["message"]


NO_CLIENT = HEAD + 'class Parrot(PluginProvider):\n    """Says it."""\n'
BROKEN = [
    ("parrot", "import nowhere_at_all", "ModuleNotFoundError"),
    ("parrot", "raise SystemExit(3)", "SystemExit"),
    ("parrot", "class Parrot: pass", "derives from PluginProvider"),
    ("parrot", NO_CLIENT, "no method `client`"),
    ("parrot", EXAMPLE.replace('"""Models that say what they hear."""', ""), "no docstring"),
    ("Parrot 2", EXAMPLE, "lower-case letters"),
    ("openai", EXAMPLE, "a built-in provider"),
    ("tool", EXAMPLE, "a built-in provider"),
]


@pytest.mark.parametrize(("name", "code", "reason"), BROKEN)
def test_broken_package_is_set_aside_with_its_reason(
    acme: World, install: Callable[..., None], name: str, code: str, reason: str
) -> None:
    good = ("macaw = models_of_macaw:Parrot", EXAMPLE)
    broken = (f"{name} = models_of_broken:Parrot", code)

    install(models_of_macaw=good, models_of_broken=broken)

    known = registry.plugins()
    assert list(known.providers) == ["macaw"]
    (told,) = known.broken
    assert (told.kind, reason in str(told)) == ("provider", True)
    kinds = made(get(acme.client(), "agents/types"))["results"]
    assert reason in next(each["fault"] for each in kinds if each["fault"])
    if name == "parrot":
        agent = {"type": "prompt", "provider": "parrot", "model": "grey"}
        spec = {"name": "s", "steps": {"a": {"agent": agent, "prompt": "x"}}}
        listed = {each["name"]: each for each in made(get(acme.client(), "providers"))["results"]}
        assert reason in listed["parrot"]["problem"]
        (found,) = made(post(acme.client(), "workflows/validate", spec))["errors"]
        assert found["code"] == "provider_not_configured"


def test_of_two_packages_with_one_name_none_is_used(install: Callable[..., None]) -> None:
    install(
        models_of_one=("parrot = models_of_one:Parrot", EXAMPLE),
        models_of_two=("parrot = models_of_two:Parrot", EXAMPLE),
    )

    assert not registry.plugins().providers
    assert "another provider is named 'parrot'" in provider_settings()["parrot"].fault
    assert "its package is broken" in check(provider_settings()["parrot"]).detail
