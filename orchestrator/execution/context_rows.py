"""Values that agents of a run share, and those that one keeps for itself, in the database."""

import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from psycopg.types.json import Json
from pydantic import JsonValue

from agents_app.core import values
from agents_app.core.context_store import MAX_KEY_LENGTH, MAX_VALUE_BYTES, ContextValue
from agents_app.core.errors import ContextConflictError, ContextRefusedError
from orchestrator.execution import engine_db
from orchestrator.execution.claims import Claim
from orchestrator.execution.doorbell import ALL, LOOK_SECONDS, doorbell
from orchestrator.execution.fenced import Fenced
from orchestrator.execution.leases import Lease

# How many versions of a key are kept; and of all keys of a run together.
KEPT_VERSIONS: Final = 100
MAX_VERSIONS: Final = 20_000
MAX_BYTES: Final = 32 * 1024 * 1024
_SET = "SELECT * FROM muster_set_context(%s, %s, %s, %s, %s, %s, %s, %s::json, %s, %s, %s, %s)"
_GET = "SELECT * FROM muster_get_context(%s, %s, %s, %s, %s, %s)"


class ContextRows:
    """The values that the agent of one attempt may see. Waits hold no database connection."""

    def __init__(self, claim: Claim, lease: Lease) -> None:
        self._fenced = Fenced(claim, lease)
        self._claim = claim

    def get(self, key: str, *, is_private: bool = False) -> ContextValue:
        found = self._versions(key, is_private=is_private, most=1)
        return found[0] if found else ContextValue(key=key, version=0)

    def history(self, key: str, *, is_private: bool = False) -> Sequence[ContextValue]:
        return self._versions(key, is_private=is_private, most=KEPT_VERSIONS)

    def set(
        self,
        key: str,
        value: JsonValue,
        *,
        call_id: UUID,
        is_private: bool = False,
        expected_version: int | None = None,
    ) -> ContextValue:
        claim, size = self._claim, _checked_size(key, value)
        row = self._fenced.row(
            _SET,
            *(claim.tenant_id, claim.agent_run_id, claim.attempt, call_id, is_private, key),
            *(expected_version, Json(value), size, KEPT_VERSIONS, MAX_VERSIONS, MAX_BYTES),
        )
        match row["verdict"]:
            case "conflict":
                raise ContextConflictError(key, expected_version or 0, row["effect"])
            case "full":
                told = (
                    f"the run keeps at most {MAX_VERSIONS:,} versions of values, and {MAX_BYTES:,} "
                    "bytes of them"
                )
                raise ContextRefusedError("context_full", told)
            case "written":
                doorbell().ring({claim.run_id: [claim.agent_run_id if is_private else ALL]})
        return ContextValue(key=key, version=row["effect"], value=value, writer=claim.step)

    def wait(
        self, key: str, *, newer_than: int, seconds: float, is_private: bool = False
    ) -> ContextValue:
        claim = self._claim
        until = self._fenced.until(seconds)
        waiter = doorbell().waiter(claim.run_id, claim.agent_run_id)
        while (found := self.get(key, is_private=is_private)).version <= newer_than:
            left = until - time.monotonic()
            if left <= 0 or self._fenced.lease.is_over:
                break
            waiter.rung.wait(min(left, LOOK_SECONDS))
            waiter.rung.clear()
        return found

    def _versions(self, key: str, *, is_private: bool, most: int) -> list[ContextValue]:
        claim = self._claim
        which = (claim.tenant_id, claim.run_id, claim.agent_run_id, is_private, key, most)
        rows = self._fenced.persistently(lambda: engine_db.many(_GET, *which))
        return [ContextValue(key=key, **row) for row in rows]


def _checked_size(key: str, value: JsonValue) -> int:
    if not 1 <= len(key) <= MAX_KEY_LENGTH or key != values.clean_text(key):
        raise ContextRefusedError("invalid", f"a key has 1 to {MAX_KEY_LENGTH} characters")
    size = values.json_size(value)
    if size > MAX_VALUE_BYTES:
        told = f"the value has {size:,} bytes, and at most {MAX_VALUE_BYTES:,} may be"
        raise ContextRefusedError("value_too_large", told)
    return size
