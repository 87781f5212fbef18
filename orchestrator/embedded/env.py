"""Secrets of one clone, and the environment through which every process learns the addresses."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.postgres import Passwords
from orchestrator.embedded.state import Home, write_private

DATABASE_VARIABLES = ("DATABASE_URL", "MIGRATION_DATABASE_URL", "SYSTEM_DATABASE_URL")


def token() -> str:
    return secrets.token_urlsafe(24)


def encryption_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Secrets:
    superuser: str = field(default_factory=token)
    owner: str = field(default_factory=token)
    app: str = field(default_factory=token)
    system: str = field(default_factory=token)
    valkey: str = field(default_factory=token)
    flower: str = field(default_factory=token)
    django: str = field(default_factory=token)
    credentials: str = field(default_factory=encryption_key)

    @property
    def passwords(self) -> Passwords:
        return Passwords(
            superuser=self.superuser, owner=self.owner, app=self.app, system=self.system
        )


def load_secrets(home: Home) -> Secrets:
    """The secrets of this clone, made at first use; a kind that is new is added to the old ones."""
    stored = stored_secrets(home.secrets_file)
    known = {one.name for one in fields(Secrets)}
    found = Secrets(**{name: value for name, value in stored.items() if name in known})
    if asdict(found) != stored:
        write_private(home.secrets_file, json.dumps(asdict(found), indent=2) + "\n")
    return found


def stored_secrets(path: Path) -> dict[str, str]:
    try:
        stored: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise EmbeddedError(
            f"{path} is damaged ({error}). Without it the databases beside it cannot be opened: "
            f"restore it, or remove the whole directory to start anew."
        ) from None
    return stored


def check_inherited(inherited: dict[str, str]) -> None:
    """Refuse a database of one's own of which only some of the three roles are given."""
    given = [name for name in DATABASE_VARIABLES if inherited.get(name)]
    missing = [name for name in DATABASE_VARIABLES if not inherited.get(name)]
    if given and missing:
        raise EmbeddedError(
            f"{' and '.join(given)} is set, so {' and '.join(missing)} must be set too: "
            f"the application, the migrations and the sweeper connect under roles of their own "
            f"(docker/roles.sql makes them)."
        )


def write_env_file(home: Home, environment: dict[str, str]) -> None:
    write_private(home.env_file, "".join(f"{key}={value}\n" for key, value in environment.items()))
