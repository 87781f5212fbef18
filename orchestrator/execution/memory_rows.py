"""The memory of one attempt: written only while the attempt is the one that counts."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from agents_app.core.errors import MemoryRefusedError
from agents_app.core.memory import MemoryContent, MemoryScope, Remembered, Wanted
from agents_app.services import memory
from orchestrator.execution import engine_db
from orchestrator.execution.claims import Claim
from orchestrator.execution.engine_db import rows
from orchestrator.execution.fenced import Fenced
from orchestrator.execution.leases import Lease

_ENTER = "SELECT set_config('app.tenant_id', %s, true)"
_FENCE = "SELECT * FROM muster_fence(%s, %s)"
T = TypeVar("T")


class MemoryRows:
    """The port `Memory` in the database. `agent` is the saved agent's slug; "" if it is none.

    Raises LeaseLostError and RunStoppingError as the journal of tools does.
    """

    def __init__(self, claim: Claim, lease: Lease, *, agent: str) -> None:
        self._claim = claim
        self._fenced = Fenced(claim, lease)
        self._agent = agent

    @property
    def scopes(self) -> Sequence[MemoryScope]:
        return [scope for scope in MemoryScope if scope is not MemoryScope.AGENT or self._agent]

    def keep(
        self,
        scope: MemoryScope,
        content: MemoryContent,
        *,
        call_id: UUID,
        key: str | None = None,
        expected_version: int | None = None,
        days: int | None = None,
    ) -> int:
        place = self._place(scope)
        change = memory.Change(
            content=content,
            call_id=call_id,
            key=key,
            run_id=self._claim.run_id,
            expected_version=expected_version,
            days=days,
        )
        return self._held(lambda fetch: memory.keep(fetch, place, change))

    def forget(self, scope: MemoryScope, key: str, *, call_id: UUID) -> bool:
        place = self._place(scope)
        return self._held(lambda fetch: memory.forget(fetch, place, key, call_id=call_id))

    def read(self, scope: MemoryScope, key: str) -> Remembered | None:
        place = self._place(scope)
        return self._scoped(lambda fetch: memory.entry_at(fetch, place, key))

    def search(
        self,
        query: str,
        *,
        scopes: Collection[MemoryScope],
        kinds: Collection[str] = (),
        limit: int = 5,
    ) -> Sequence[Remembered]:
        places = [self._place(scope) for scope in scopes if scope in self.scopes]
        wanted = Wanted(
            tenant_id=self._claim.tenant_id,
            query=query,
            places=[(place.scope, place.owner) for place in places],
            kinds=tuple(kinds),
            limit=limit,
        )
        return memory.searcher(self._fetch).found(wanted)

    def _fetch(self, query: str, arguments: Sequence[Any]) -> Sequence[memory.Row]:
        return self._scoped(lambda fetch: fetch(query, arguments))

    def _place(self, scope: MemoryScope) -> memory.Place:
        if scope not in self.scopes:
            told = "only a saved agent has a memory of its own; take the run's or the tenant's"
            raise MemoryRefusedError(told)
        owners = {MemoryScope.RUN: str(self._claim.run_id), MemoryScope.AGENT: self._agent}
        owner = owners.get(scope, "")
        return memory.Place(tenant_id=self._claim.tenant_id, scope=scope, owner=owner)

    def _held(self, work: Callable[[memory.Fetch], T]) -> T:
        """Whoever takes over waits for this lock, or has it first."""
        claim = self._claim

        def held(fetch: memory.Fetch) -> T:
            (fence,) = fetch(_FENCE, [claim.agent_run_id, claim.attempt])
            self._fenced.checked(fence)
            return work(fetch)

        return self._scoped(held)

    def _scoped(self, work: Callable[[memory.Fetch], T]) -> T:
        def once() -> tuple[T]:
            with engine_db.transaction() as connection:
                rows(connection, _ENTER, [str(self._claim.tenant_id)])
                return (work(partial(rows, connection)),)

        # In a tuple, since what it gives may be None.
        return self._fenced.persistently(once)[0]
