"""The containers' files agree with each other, with the programs and with the settings."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet

from tests.environment import read_by_settings

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
EXAMPLE = DOCKER / "muster.env.example"
SECRETS = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "ALLOWED_HOSTS", "CREDENTIALS_KEYS")
# What programs other than Django read.
OF_PROGRAMS = {"FLOWER_BASIC_AUTH"}
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(:[-?])?")


@cache
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def ours() -> dict[str, Any]:
    return {n: s for n, s in services().items() if s["image"].startswith("muster:")}


def example() -> set[str]:
    return set(re.findall(r"^([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))


def roles() -> set[str]:
    """What the entrypoint can become."""
    cases = re.findall(
        r"^  ([a-z |]+)\) exec", (DOCKER / "entrypoint.sh").read_text(), re.MULTILINE
    )
    return {role.strip() for case in cases for role in case.split("|")}


def test_every_service_runs_what_the_entrypoint_knows() -> None:
    commands = {name: service["command"][0] for name, service in ours().items()}

    assert commands.keys() == {"migrate", "web", "worker", "control", "flower"}
    assert set(commands.values()) <= roles()


def test_every_variable_can_be_filled_in() -> None:
    used = _VARIABLE.findall(COMPOSE.read_text())
    with_default = {name for name, kind in used if kind == ":-"}
    names = {name for name, _ in used}

    assert names - with_default - example() == set()
    assert example() - names == set()


def test_variables_without_a_default_stop_compose_with_a_sentence() -> None:
    used = _VARIABLE.findall(COMPOSE.read_text())
    explained = {name for name, kind in used if kind}

    assert {name for name, _ in used} == explained


def test_services_are_given_only_what_something_reads() -> None:
    known = read_by_settings().keys() | OF_PROGRAMS
    given = {name for service in ours().values() for name in service["environment"]}

    assert given - known == set()


def test_only_migrations_connect_as_the_owner() -> None:
    owners = [n for n, s in ours().items() if "MIGRATION_DATABASE_URL" in s["environment"]]

    assert owners == ["migrate"]


def test_workers_cannot_look_over_the_wall() -> None:
    assert "SYSTEM_DATABASE_URL" not in services()["worker"]["environment"]


def test_only_the_site_is_published_to_the_outside() -> None:
    published = {n: p for n, s in services().items() for p in s.get("ports", [])}

    assert published.keys() == {"web", "flower"}
    assert published["flower"].startswith("127.0.0.1:")


def test_our_containers_have_no_rights_to_lose() -> None:
    for service in ours().values():
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_compose_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed here")
    environment = {**os.environ, **dict.fromkeys(example(), "x")}

    subprocess.run(
        [docker, "compose", "-f", COMPOSE, "config", "--quiet"], env=environment, check=True
    )


def test_image_runs_as_nobody_in_particular_and_tells_its_health() -> None:
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    last_stage = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM ")) :]

    users = [line.split()[1] for line in last_stage if line.startswith("USER ")]
    assert users[-1:] not in ([], ["root"], ["0"])
    assert any(line.startswith("HEALTHCHECK ") for line in last_stage)


def test_image_copies_what_exists_and_is_not_ignored() -> None:
    copies = re.findall(r"^COPY (?!--from)(.+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    sources = {name for line in copies for name in line.split()[:-1]}
    let_in = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }

    assert [name for name in sources if not (ROOT / name).exists()] == []
    assert sources - let_in == set()


@pytest.mark.parametrize(
    "script", ["docker/entrypoint.sh", ".ci/run", "orchestrator/embedded/bootstrap.sh"]
)
def test_shell_scripts_parse(script: str) -> None:
    path = ROOT / script
    shell = path.read_text().partition("\n")[0].rpartition("/")[2].split()[-1]

    subprocess.run([shell, "-n", path], check=True)


def test_entrypoint_is_executable() -> None:
    assert os.access(DOCKER / "entrypoint.sh", os.X_OK)


def load_production(**given: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **given}
    code = "import orchestrator.settings.production"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_production_refuses_to_start_and_names_all_that_is_missing() -> None:
    done = load_production()

    assert done.returncode != 0
    sentence = done.stderr.splitlines()[-1]
    assert all(name in sentence for name in SECRETS)
    assert "docs/deployment.md" in sentence


@pytest.mark.parametrize("name", SECRETS)
def test_production_names_the_one_secret_that_is_missing(name: str) -> None:
    given = {
        "SECRET_KEY": "x" * 50,
        "DATABASE_URL": "postgres://a:b@db/muster",
        "REDIS_URL": "redis://cache/0",
        "ALLOWED_HOSTS": "muster.example.com",
        "CREDENTIALS_KEYS": Fernet.generate_key().decode(),
    }
    del given[name]

    sentence = load_production(**given).stderr.splitlines()[-1]

    assert name in sentence
    assert not any(other in sentence.replace(name, "") for other in given)


def test_production_takes_secrets_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x" * 50 + "\n")

    done = load_production(
        SECRET_KEY_FILE=str(tmp_path / "key"),
        DATABASE_URL="postgres://a:b@db/muster",
        REDIS_URL="redis://cache/0",
        ALLOWED_HOSTS="muster.example.com",
        CREDENTIALS_KEYS=Fernet.generate_key().decode(),
    )

    assert done.returncode == 0, done.stderr
