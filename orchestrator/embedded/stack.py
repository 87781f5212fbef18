"""Which servers and processes belong to a running Muster, and what each is told."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from celery import Celery
from kombu.exceptions import KombuError
from redis import RedisError

from orchestrator.embedded import commands
from orchestrator.embedded.env import Secrets, check_inherited
from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.model import ModelServer, answers
from orchestrator.embedded.ports import LOOPBACK, Claims, free_port, required_port
from orchestrator.embedded.postgres import Postgres, best_identity
from orchestrator.embedded.processes import Service
from orchestrator.embedded.state import Home
from orchestrator.embedded.valkey import Valkey

AGENT_WORKERS = ("agents1", "agents2")
# Where people look first; another port is taken when these are in use.
FAMILIAR_PORTS = {"web": 8000, "flower": 5555}
PORT_VARIABLES = {"web": "PORT", "flower": "FLOWER_PORT"}
PROGRAMS = ("postgres", "valkey", "model", "web", "flower")
FLOWER_USER = "muster"
# What a worker takes to hand over its work, after the time in which it may finish it.
HAND_OVER_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Everything that one supervisor runs. Servers start before the processes that use them.

    The model is nobody's need before the first run, so it loads meanwhile.
    """

    postgres: Postgres | None
    model: tuple[Service, ...]
    servers: tuple[Service, ...]
    processes: tuple[Service, ...]
    environment: dict[str, str]
    ports: dict[str, int]

    @property
    def addresses(self) -> dict[str, str]:
        site = f"http://{LOOPBACK}:{self.ports['web']}"
        return {
            "site": site,
            "api": f"{site}/api/v1/",
            "docs": f"{site}/api/v1/docs",
            "admin": f"{site}/admin/",
            "flower": f"http://{LOOPBACK}:{self.ports['flower']}",
        }


def build_stack(
    home: Home,
    *,
    secrets: Secrets,
    inherited: Mapping[str, str],
    last_ports: Mapping[str, int],
    claims: Claims,
) -> Stack:
    """Plan the servers that `inherited` does not name already, and the processes on top."""
    given = {name: value for name, value in inherited.items() if value}
    check_inherited(given)
    ports = choose_ports(given, last_ports=last_ports, claims=claims)
    postgres = Postgres(
        home=home.path,
        port=ports["postgres"],
        passwords=secrets.passwords,
        identity=best_identity(),
    )
    valkey = Valkey(home=home.path, port=ports["valkey"], password=secrets.valkey)
    model = ModelServer(home=home.path, port=ports["model"])
    servers = {"DATABASE_URL": postgres.service(), "REDIS_URL": valkey.service()}
    environment = {
        "DATABASE_URL": postgres.url("muster_app"),
        "MIGRATION_DATABASE_URL": postgres.url("muster_owner"),
        "SYSTEM_DATABASE_URL": postgres.url("muster_system"),
        "REDIS_URL": valkey.url,
        "LOCAL_MODEL_URL": model.url,
        "SECRET_KEY": secrets.django,
        "CREDENTIALS_KEYS": secrets.credentials,
        "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{secrets.flower}",
        # Flower shows nothing without them.
        "CELERY_TASK_EVENTS": "true",
        # Somebody waits for it at a terminal.
        "CELERY_SOFT_SHUTDOWN_SECONDS": "10",
    }
    environment |= {name: given[name] for name in environment if name in given}
    return Stack(
        postgres=None if "DATABASE_URL" in given else postgres,
        model=() if "LOCAL_MODEL_URL" in given else (model.service(),),
        servers=tuple(server for name, server in servers.items() if name not in given),
        processes=processes(home, environment=given | environment, ports=ports),
        environment=environment,
        ports=ports,
    )


def choose_ports(
    given: Mapping[str, str], *, last_ports: Mapping[str, int], claims: Claims
) -> dict[str, int]:
    """A free port for each program: the one asked for, else last time's, else a familiar one."""
    ports: dict[str, int] = {}
    for name in PROGRAMS:
        variable = PORT_VARIABLES.get(name, "")
        if variable in given:
            wanted = port_number(given[variable], variable)
            ports[name] = required_port(wanted, variable=variable, may_have=claims.take)
            continue
        preferred = last_ports.get(name, FAMILIAR_PORTS.get(name))
        ports[name] = free_port(preferred=preferred, may_have=claims.take)
    return ports


def port_number(text: str, variable: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise EmbeddedError(f"{variable}={text!r} is not a port number.")
    return int(text)


def processes(
    home: Home, *, environment: dict[str, str], ports: Mapping[str, int]
) -> tuple[Service, ...]:
    broker = environment.get("CELERY_BROKER_URL") or environment["REDIS_URL"]
    site, flower = (f"http://{LOOPBACK}:{ports[name]}" for name in ("web", "flower"))

    def process(name: str, command: tuple[str, ...], is_ready: Callable[[], bool]) -> Service:
        return Service(
            name=name,
            command=command,
            directory=commands.REPOSITORY,
            log=home.logs / f"{name}.log",
            environment=environment,
            is_ready=is_ready,
            ready_seconds=60,
            poll_seconds=0.3,
        )

    def worker(name: str, command: tuple[str, ...]) -> Service:
        service = process(name, command, partial(worker_answers, name, broker=broker))
        patience = float(environment["CELERY_SOFT_SHUTDOWN_SECONDS"])
        return replace(service, stop_seconds=patience + HAND_OVER_SECONDS)

    return (
        *(worker(name, commands.worker(name=name)) for name in AGENT_WORKERS),
        worker("control", commands.control(name="control")),
        process(
            "web",
            commands.web("--host", LOOPBACK, "--port", str(ports["web"])),
            partial(answers, f"{site}/health"),
        ),
        process(
            "flower",
            commands.flower(f"--port={ports['flower']}"),
            partial(answers, f"{flower}/healthcheck"),
        ),
    )


def worker_answers(name: str, *, broker: str) -> bool:
    """Whether the worker replies to Celery's ping, as `celery inspect ping` asks it."""
    with Celery("probe", broker=broker, set_as_current=False) as probe:
        destination = [f"{name}@{socket.gethostname()}"]
        try:
            return bool(probe.control.ping(destination=destination, timeout=0.5))
        except (OSError, KombuError, RedisError):
            # The broker is away, or went away while the reply was awaited.
            return False
