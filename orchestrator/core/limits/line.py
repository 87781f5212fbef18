"""The line before a scope: fair between tenants, first come first served within one.

Start-time fair queueing. Each waiter's place is the virtual time at which it would start if
each tenant were served by its weight. A place is kept while the waiter comes back when it was
told to; one that is late lets others pass until it is here again.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.core.limits.facts import Unit

# So late may a waiter come without losing its turn to one behind it.
LATE_US: Final = 200_000
# So long is the place of one that is late remembered.
KEEP_US: Final = 30_000_000
# Of so many ahead it is known what they ask for; the others ask as much on average.
LOOKED: Final = 32
# Of those that did not come back, so many are looked at in one call.
TIDIED: Final = 16
# Those who come at the same virtual time stand in the order in which they came.
_TIES: Final = 1024


@dataclass(slots=True)
class Ticket:
    place: float
    cost: float
    since: float
    tenant: str
    amounts: Mapping[Unit, int]
    due: float = 0.0
    is_expected: bool = False


@dataclass(slots=True)
class Line:
    """`alive_until` is when even the last waiter will be forgotten, `virtual` the time served."""

    tickets: dict[str, Ticket] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)
    virtual: float = 0.0
    alive_until: float = 0.0
    comers: int = 0

    def tidy(self, now: float) -> None:
        """Let those wait aside who did not come in time, and forget those long gone."""
        late = sorted((ticket.due, w) for w, ticket in self.tickets.items() if ticket.due < now)
        for _, waiter in late[:TIDIED]:
            ticket = self.tickets[waiter]
            if ticket.is_expected:
                ticket.is_expected, ticket.due = False, now + KEEP_US
                continue
            self.leave(waiter)

    def leave(self, waiter: str) -> None:
        ticket = self.tickets.pop(waiter, None)
        if ticket and ticket.tenant in self.finished:
            # What it will not use is not held against its tenant.
            self.finished[ticket.tenant] -= ticket.cost

    def place_of(self, waiter: str, tenant: str) -> float:
        """Where the waiter stands, or would stand if it came now."""
        if waiter in self.tickets:
            return self.tickets[waiter].place
        start = math.floor(max(self.virtual, self.finished.get(tenant, 0.0)))
        return start + ((self.comers + 1) % _TIES) / _TIES

    def ahead_of(self, place: float) -> tuple[int, dict[Unit, float]]:
        """How many stand ahead, and how much of each unit they ask for together."""
        expected = ((t.place, w) for w, t in self.tickets.items() if t.is_expected)
        ahead = sorted(at for at in expected if at[0] < place)
        asked: Counter[Unit] = Counter()
        for _, waiter in ahead[:LOOKED]:
            asked.update(self.tickets[waiter].amounts)
        looked = min(len(ahead), LOOKED)
        return len(ahead), {unit: total * len(ahead) / looked for unit, total in asked.items()}

    def join(
        self,
        waiter: str,
        *,
        tenant: str,
        cost: float,
        amounts: Mapping[Unit, int],
        now: float,
        wait: float,
    ) -> None:
        """Stand in line, at the place held already if there is one, and be expected in time."""
        if self.alive_until <= now:
            self._begin_anew()
        ticket = self.tickets.get(waiter)
        if ticket is None:
            place = self.place_of(waiter, tenant)
            ticket = Ticket(place=place, cost=cost, since=now, tenant=tenant, amounts=amounts)
            self.tickets[waiter] = ticket
            self.comers += 1
            self.finished[tenant] = math.floor(place) + cost
        ticket.amounts = amounts
        ticket.is_expected, ticket.due = True, now + wait + LATE_US
        self.alive_until = max(self.alive_until, ticket.due + KEEP_US)

    def step_aside(self, waiter: str, now: float) -> None:
        """Keep the place, but hold up nobody: the waiter waits for something else."""
        ticket = self.tickets.get(waiter)
        if ticket is not None and ticket.is_expected:
            ticket.is_expected, ticket.due = False, now + KEEP_US

    def served(self, waiter: str, *, tenant: str, cost: float) -> None:
        place = math.floor(self.place_of(waiter, tenant))
        if self.tickets.pop(waiter, None) is None:
            self.finished[tenant] = place + cost
        self.virtual = max(self.virtual, place)

    def _begin_anew(self) -> None:
        self.tickets.clear()
        self.finished.clear()
        self.virtual, self.comers = 0.0, 0
