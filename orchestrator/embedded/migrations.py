"""Brings the database to the newest tables, and knows when there is nothing to do."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

from orchestrator.embedded import commands
from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.postgres import Postgres

# Django's own tables come with its version.
PINS = commands.REPOSITORY / "requirements" / "base.txt"


def migrate(*, environment: Mapping[str, str], stamp: Path | None) -> None:
    """Run the migrations unless `stamp` says that this very set has run."""
    wanted = migrations_digest(commands.REPOSITORY)
    if stamp is not None and stamp.exists() and stamp.read_text() == wanted:
        return
    done = subprocess.run(
        commands.manage("migrate", "--no-input"),
        cwd=commands.REPOSITORY,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EmbeddedError(f"The migrations failed.\n{done.stdout}")
    if stamp is not None:
        stamp.write_text(wanted)


def stamp_of(postgres: Postgres | None) -> Path | None:
    """Beside the data, so that it goes with it. A server of one's own is asked every time."""
    return None if postgres is None else postgres.base / "migrated.sha256"


def migrations_digest(root: Path) -> str:
    digest = hashlib.sha256(PINS.read_bytes())
    for path in sorted(root.glob("*/migrations/**/*")) + sorted(root.glob("*/sql/**/*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
