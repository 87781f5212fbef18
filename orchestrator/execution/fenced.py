"""What an attempt writes beside its turns: only while it holds its agent run."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from orchestrator.execution import engine_db
from orchestrator.execution.claims import Claim
from orchestrator.execution.doorbell import MAX_WAIT_SECONDS
from orchestrator.execution.engine_db import Row
from orchestrator.execution.errors import LeaseLostError, RunStoppingError
from orchestrator.execution.leases import Lease

T = TypeVar("T")
R = TypeVar("R", bound=Mapping[str, Any])
_MARGIN_SECONDS: Final = 1.0


class Fenced:
    """The statements of one attempt.

    Raises LeaseLostError once another may be at work, and RunStoppingError where the run is to end:
    nothing is written for it any more.
    """

    def __init__(self, claim: Claim, lease: Lease) -> None:
        self.claim = claim
        self.lease = lease

    def until(self, seconds: float) -> float:
        """When a wait is over, by the monotonic clock: within the time of its step."""
        # What is taken as that ends would be heard by nobody.
        longest = max(0.0, self.lease.seconds_left - _MARGIN_SECONDS)
        return time.monotonic() + min(seconds, MAX_WAIT_SECONDS, longest)

    def row(self, query: str, *arguments: Any) -> Row:
        """The only row of a statement, whose `verdict` says that the attempt may go on."""
        return self.checked(self.persistently(lambda: engine_db.one(query, *arguments)))

    def checked(self, row: R) -> R:
        match row["verdict"]:
            case "lost":
                self.lease.lose()
                raise self.lost()
            case "stopping":
                # Whatever else this attempt does hears of it at once.
                self.lease.stopping.set()
                raise RunStoppingError
        return row

    def persistently(self, work: Callable[[], T | None]) -> T:
        """Through failures of the database, for as long as the attempt has its lease."""
        done = engine_db.persistently(work, give_up=self.lease.lost.is_set)
        if done is None:
            raise self.lost()
        return done

    def lost(self) -> LeaseLostError:
        return LeaseLostError(self.claim.step, self.claim.attempt)
