"""What the containers do, without an engine for containers.

The image's files are put together as the Dockerfile says. Each service of the compose file is a
process of its own, started by the entrypoint with that service's command, and with nothing in its
environment but what the image and the compose file put there.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from orchestrator.embedded.commands import REPOSITORY
from orchestrator.embedded.ports import LOOPBACK, free_port
from orchestrator.embedded.stack import worker_answers
from orchestrator.embedded.testing import ServerAddresses
from tests.e2e.programs import Program, serving, spawn

DOCKER = REPOSITORY / "docker"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    image: Path
    environment: Mapping[str, str]
    program: Program

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.environment['PORT']}"

    @property
    def worker(self) -> str:
        """How Celery calls the process, if it is a worker that runs agents."""
        return f"agents-{self.program.pid}@{socket.gethostname()}"

    def is_well(self) -> bool:
        check = subprocess.run(
            ["python", "docker/healthcheck.py"],
            cwd=self.image,
            env=dict(self.environment),
            capture_output=True,
        )
        return check.returncode == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A place with the image, the compose file, its `.env` file, and the two servers."""

    image: Path
    scratch: Path
    servers: ServerAddresses
    env_file: Mapping[str, str]

    def start(self, service: str, *command: str, **changed: str) -> Container:
        """Start a service, with another command or other variables if they are given."""
        environment = self.environment(service) | changed
        own = [self.filled(part) for part in services()[service]["command"]]
        program = spawn(
            ["docker/entrypoint.sh", *(command or own)],
            log=Path(environment["TMPDIR"], "log"),
            environment=environment,
            directory=self.image,
        )
        return Container(image=self.image, environment=environment, program=program)

    def run(self, service: str, *command: str) -> str:
        """What a command says that has to succeed, as with `docker compose run`."""
        program = self.start(service, *command).program
        assert program.ended() == 0, program.said
        return program.said

    @contextmanager
    def serving(self, service: str, **changed: str) -> Iterator[Container]:
        container = self.start(service, **changed)
        name = {"worker": "agents", "control": "control"}.get(service)

        def is_ready() -> bool:
            if name is None:
                return container.is_well()
            worker = f"{name}-{container.program.pid}"
            return worker_answers(worker, broker=self.servers.redis_url)

        with serving(container.program, is_ready):
            yield container

    def environment(self, service: str) -> dict[str, str]:
        # What a container has to itself: its ports and its temporary files.
        temporary = self.scratch / f"{service}-{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        given = services()[service]["environment"]
        return {
            **image_environment(),
            **{name: self.filled(text) for name, text in given.items()},
            "PATH": PATH,
            "PORT": str(free_port()),
            "FLOWER_PORT": str(free_port()),
            "TMPDIR": str(temporary),
        }

    def filled(self, text: str) -> str:
        """A text of the compose file with its variables, and its servers where they are here."""
        values = {**self.env_file, **self.passwords()}
        filled = _VARIABLE.sub(lambda found: _value(found, values), text)
        servers = {"postgres:5432": self.servers.app_url, "redis:6379": self.servers.redis_url}
        for name, url in servers.items():
            filled = filled.replace(f"@{name}/", f"@{LOOPBACK}:{urlsplit(url).port}/")
        return filled

    def passwords(self) -> dict[str, str]:
        urls = {
            "MUSTER_APP_PASSWORD": self.servers.app_url,
            "MUSTER_OWNER_PASSWORD": self.servers.owner_url,
            "MUSTER_SYSTEM_PASSWORD": self.servers.system_url,
            "REDIS_PASSWORD": self.servers.redis_url,
        }
        return {name: urlsplit(url).password or "" for name, url in urls.items()}


def _value(found: re.Match[str], values: Mapping[str, str]) -> str:
    name, kind, text = found.groups()
    if name in values:
        return values[name]
    assert kind == "-", f"{name}: {text}"
    return text


@cache
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    return found


@cache
def last_stage() -> list[tuple[str, str]]:
    """The Dockerfile's instructions that make the image that runs, each with its text."""
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    begin = max(i for i, line in enumerate(lines) if line.startswith("FROM "))
    return [(name, text) for name, _, text in (line.partition(" ") for line in lines[begin:])]


def image_environment() -> dict[str, str]:
    pairs = [pair for name, text in last_stage() if name == "ENV" for pair in shlex.split(text)]
    return dict(pair.split("=", 1) for pair in pairs)


def build(image: Path) -> None:
    """All of the image but its operating system and its packages."""
    for name, text in last_stage():
        if name == "COPY" and not text.startswith("--from"):
            *sources, target = text.split()
            for source in sources:
                _copy(REPOSITORY / source, image / target)
        if name == "RUN" and "manage.py" in text:
            subprocess.run(["sh", "-ec", text], cwd=image, env={"PATH": PATH}, check=True)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        return
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
