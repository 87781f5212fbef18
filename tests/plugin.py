"""Starts the session's own PostgreSQL and Valkey before Django reads its settings.

Servers, database template and addresses are the controller's; xdist workers inherit the
environment and clone their own database. Inherited server addresses are ignored on purpose.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.embedded.testing import test_servers as start_servers

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "muster"
_MARK = "MUSTER_TEST_SERVERS"
_stack = ExitStack()


def database_url(url: str, name: str) -> str:
    return f"{url.rsplit('/', 1)[0]}/{name}"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(args: list[str]) -> None:
    if _MARK not in os.environ:
        _start()
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    number = int(worker.removeprefix("gw")) + 1 if worker.startswith("gw") else 0
    for name in ("DATABASE_URL", "SYSTEM_DATABASE_URL", "MIGRATION_DATABASE_URL"):
        os.environ[name] = database_url(os.environ[name], f"test_{worker}")
    os.environ["REDIS_URL"] = f"{os.environ['REDIS_URL'].rsplit('/', 1)[0]}/{number}"


def _start() -> None:
    base = tempfile.mkdtemp(prefix="muster-tests-")
    _stack.callback(shutil.rmtree, base, ignore_errors=True)
    servers = _stack.enter_context(start_servers(Path(base)))
    for name in [
        n for n in os.environ if n.endswith(("_API_KEY", "_BASE_URL")) or n.startswith("LLM_")
    ]:
        del os.environ[name]
    os.environ.update(
        {
            _MARK: base,
            "DATABASE_URL": servers.app_url,
            "SYSTEM_DATABASE_URL": servers.system_url,
            "MIGRATION_DATABASE_URL": servers.owner_url,
            "REDIS_URL": servers.redis_url,
            "CELERY_BROKER_URL": "",
            "DJANGO_SETTINGS_MODULE": "orchestrator.settings.test",
        }
    )
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, check=True)


def pytest_unconfigure() -> None:
    _stack.close()
