"""The reference model of the limiter: what the Lua decides, in plain Python.

Time is an argument. The property tests hold both against each other step by step, and where a
setting says so it serves as the limiter of a single process while Redis is away. Not safe for
threads by itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from orchestrator.core.limits import levels
from orchestrator.core.limits.facts import Unit
from orchestrator.core.limits.levels import Level
from orchestrator.core.limits.line import Line
from orchestrator.core.limits.tiers import Counting, LimitedScope, Tier

# A clock that went back by less is noticed by nobody.
BEAT_US: Final = 50_000
# Between those who wait for the end of a pause that has no limit to space them.
PAUSE_GAP_US: Final = 20_000
# How long a place is held if nobody knows yet; and how long one is told to wait for it.
USUAL_HOLD_US: Final = 1_000_000
PLACE_WAIT_US: Final = (10_000, 10_000_000)
# How far the latest call moves the average time for which places are held.
_LATEST: Final = 0.2
# Of the time until a place is free, the first in line waits a quarter and looks again.
_FIRST: Final = 0.25


class Status(IntEnum):
    GRANTED = 1
    DENIED = 0
    NEVER = -1  # more than the limit can ever grant
    CLOSED = -2  # nothing is known: what is under way has to be put back first
    UNSEEDED = -3  # some tiers have to be told what they granted in their period
    CLOCK = -4  # the calendar days that were given do not reach the present


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`scope` and `tier` are positions: who refuses, tier None for a pause; or budget's."""

    status: Status
    wait_us: int = 0
    scope: int | None = None
    tier: int | None = None
    budget: int | None = None
    unseeded: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A call as the limiter sees it. `scopes` are all that apply, with their tiers."""

    call_id: str
    waiter: str
    tenant: str
    weight: int
    amounts: Mapping[Unit, int]
    scopes: tuple[LimitedScope, ...]
    hold_nano: int = 0
    budgets: tuple[str, ...] = ()


@dataclass(slots=True)
class _Charge:
    scope: str
    tier: Tier
    amount: int
    at: float


@dataclass(slots=True)
class _Grant:
    at: float
    charges: list[_Charge]
    places: list[tuple[str, str]]
    is_settled: bool = False


@dataclass(slots=True)
class _Scope:
    levels: dict[str, Level] = field(default_factory=dict)
    places: dict[str, dict[str, float]] = field(default_factory=dict)
    paused_until: float = 0.0
    line: Line = field(default_factory=Line)


@dataclass(slots=True)
class _Look:
    """What one scope says to a call: how long to wait, and for which tier."""

    wait: float = 0.0
    tier: int | None = None
    levels: list[Level] = field(default_factory=list)

    def note(self, wait: float, tier: int | None) -> None:
        if wait > self.wait:
            self.wait, self.tier = wait, tier


class LimiterModel:
    """All that the limiter knows, and its decisions."""

    def __init__(self, *, lease_us: int) -> None:
        self._lease_us = lease_us
        self._scopes: dict[str, _Scope] = {}
        self._grants: dict[str, _Grant] = {}
        self._waits_at: dict[str, str] = {}  # the scope in whose line a waiter was put last
        self._flags: dict[str, tuple[int, float]] = {}
        self._last = 0.0
        self._skew = 0.0
        self._opened_at: float | None = None

    def open(self, raw: float, *, idle_us: float = 0.0) -> None:
        """Begin with empty buckets, which have been filling for as long as nothing was granted."""
        self._last, self._skew = raw, 0.0
        self._opened_at = raw - idle_us

    def admit(self, ask: Ask, raw: float) -> Verdict:
        if self._opened_at is None:
            return Verdict(status=Status.CLOSED)
        now = self._now(raw)
        known = self._grants.get(ask.call_id)
        if known is not None:
            self._renew(ask.call_id, known, now)
            return Verdict(status=Status.GRANTED)
        refusal = self._refusal(ask, now=now, raw=raw)
        if refusal is not None:
            return refusal
        looks = [self._look(scope, ask, now=now, raw=raw) for scope in ask.scopes]
        longest = max((look.wait for look in looks), default=0.0)
        if longest > 0:
            return self._deny(ask, looks, longest, now)
        self._grant(ask, looks, now)
        return Verdict(status=Status.GRANTED)

    def seed(self, scope: LimitedScope, tier: Tier, used: float, raw: float) -> None:
        """Tell a tier what it granted in its period; what is known already stays."""
        now = self._now(raw)
        start = None if tier.counting is Counting.BUCKET else levels.window_start(tier, raw)
        at = now if start is None else start
        if tier.counting is Counting.BUCKET:
            # It overflows; what a window granted is remembered, for a limit that is raised.
            used = min(used, tier.most)
        self._scope(scope.key).levels.setdefault(tier.key, Level(used=used, at=at))

    def put_back(self, call_id: str, places: Sequence[tuple[str, str]], raw: float) -> None:
        """Take places for a call that is under way: (scope, tier)."""
        now = self._now(raw)
        self._grants[call_id] = _Grant(at=now, charges=[], places=list(places))
        for scope, tier in places:
            self._scope(scope).places.setdefault(tier, {})[call_id] = now + self._lease_us

    def settle(self, call_id: str, used: Mapping[Unit, int], raw: float) -> bool:
        """Replace the estimate by the truth and give places back. Once, however often called."""
        now = self._now(raw)
        grant = self._grants.get(call_id)
        if grant is None or grant.is_settled:
            return False
        for charge in grant.charges:
            delta = used.get(charge.tier.unit, charge.amount) - charge.amount
            self._correct(charge, delta, grant.at, now)
        self._free(call_id, grant, now)
        grant.is_settled = True
        return True

    def release(self, call_id: str, raw: float) -> bool:
        """Give a grant back whole, as if it had not been."""
        now = self._now(raw)
        grant = self._grants.get(call_id)
        if grant is None or grant.is_settled:
            return False
        for charge in grant.charges:
            self._correct(charge, -charge.amount, grant.at, now)
        self._free(call_id, grant, None)
        del self._grants[call_id]
        return True

    def leave(self, waiters: Sequence[str], raw: float) -> None:
        """They will not ask again: nobody need wait for their turn."""
        self._now(raw)
        for waiter in waiters:
            if waiter in self._waits_at:
                self._scope(self._waits_at.pop(waiter)).line.leave(waiter)

    def renew(self, call_ids: Sequence[str], raw: float) -> None:
        now = self._now(raw)
        for call_id in call_ids:
            grant = self._grants.get(call_id)
            if grant is not None:
                self._renew(call_id, grant, now)

    def pause(self, scope: LimitedScope, seconds: float, raw: float) -> None:
        """Let nobody through for a time, and begin with empty buckets then."""
        until = self._now(raw) + math.ceil(seconds * 1_000_000)
        state = self._scope(scope.key)
        state.paused_until = max(state.paused_until, until)
        for tier in scope.tiers:
            if tier.counting is not Counting.BUCKET:
                continue
            level = self._level(scope.key, tier, raw)
            if level is not None and level.at < until:
                levels.note_low(level, level.now(tier, self._now(raw)))
                level.used = max(float(tier.capacity), level.now(tier, until))
                level.at = until
                state.levels[tier.key] = level

    def lower(
        self, scope: LimitedScope, unit: Unit, remaining: int, raw: float, period_us: int = 0
    ) -> None:
        """The provider says what is left: more than that is not let through."""
        now = self._now(raw)
        for tier in scope.tiers:
            if tier.unit is not unit or (period_us and tier.period_us != period_us):
                continue
            level = self._level(scope.key, tier, raw)
            if level is None or tier.counting is Counting.CONCURRENT:
                continue
            floor = float(max(0, tier.most - remaining))
            if tier.counting is Counting.BUCKET:
                level.used += max(0.0, floor - level.now(tier, now))
            else:
                level.used = max(level.used, floor)
            self._scope(scope.key).levels[tier.key] = level

    def flag(self, key: str, left_nano: int, raw: float, *, ttl_us: float) -> None:
        self._flags[key] = (left_nano, self._now(raw) + ttl_us)

    def clear_flag(self, key: str) -> None:
        self._flags.pop(key, None)

    def places_taken(self, scope: str, tier: str) -> int:
        return len(self._scope(scope).places.get(tier, {}))

    def level(self, scope: LimitedScope, tier: Tier, raw: float) -> Level | None:
        return self._level(scope.key, tier, raw)

    def _now(self, raw: float) -> float:
        """A time that never goes back: a clock that does is followed from where it was."""
        now = raw + self._skew
        if now < self._last:
            self._skew += self._last - now
            return self._last
        if now - self._last >= BEAT_US:
            self._last = now
        return now

    def _scope(self, key: str) -> _Scope:
        return self._scopes.setdefault(key, _Scope())

    def _refusal(self, ask: Ask, *, now: float, raw: float) -> Verdict | None:
        for index, key in enumerate(ask.budgets):
            left, until = self._flags.get(key, (0, 0.0))
            if until > now and ask.hold_nano > left:
                wait = math.ceil(until - now)
                return Verdict(status=Status.DENIED, wait_us=wait, budget=index)
        unseeded = []
        for i, scope in enumerate(ask.scopes):
            for j, tier in enumerate(scope.tiers):
                if ask.amounts.get(tier.unit, 0) > tier.most:
                    return Verdict(status=Status.NEVER, scope=i, tier=j)
                if tier.counting is Counting.CALENDAR and levels.window_start(tier, raw) is None:
                    return Verdict(status=Status.CLOCK)
                if tier.is_long and tier.key not in self._scope(scope.key).levels:
                    unseeded.append((i, j))
        return Verdict(status=Status.UNSEEDED, unseeded=tuple(unseeded)) if unseeded else None

    def _level(self, scope: str, tier: Tier, raw: float) -> Level | None:
        """What is known of a tier, to be kept if it is changed; None of an unknown long one."""
        known = self._scope(scope).levels.get(tier.key)
        if known is None and tier.is_long:
            return None
        level = known.copy() if known else self._first_level(tier, raw)
        if tier.counting in (Counting.WINDOW, Counting.CALENDAR):
            levels.enter_window(level, levels.window_start(tier, raw) or 0.0)
        return level

    def _first_level(self, tier: Tier, raw: float) -> Level:
        """Of a short tier that has granted nothing, as far as anybody knows."""
        opened = self._opened_at or 0.0
        if tier.counting is Counting.CONCURRENT:
            return Level()
        if tier.counting is Counting.BUCKET:
            return Level(used=float(tier.capacity), at=opened)
        start = levels.window_start(tier, raw) or 0.0
        return Level(used=float(tier.limit) if start < opened else 0.0, at=start)

    def _look(self, scope: LimitedScope, ask: Ask, *, now: float, raw: float) -> _Look:
        state = self._scope(scope.key)
        ahead, asked = 0, dict[Unit, float]()
        if state.line.alive_until > now:
            state.line.tidy(now)
            ahead, asked = state.line.ahead_of(state.line.place_of(ask.waiter, ask.tenant))
        look = _Look()
        if state.paused_until > now:
            look.note(state.paused_until - now + ahead * PAUSE_GAP_US, None)
        for index, tier in enumerate(scope.tiers):
            # Calls with unseeded tiers were sent back.
            level = self._level(scope.key, tier, raw) or Level()
            look.levels.append(level)
            if tier.counting is Counting.CONCURRENT:
                look.note(self._wait_for_place(scope.key, tier, level, ahead, now), index)
                continue
            amount = ask.amounts.get(tier.unit, 0)
            if amount <= 0:
                continue
            needed = amount + asked.get(tier.unit, 0.0)
            look.note(_wait_in(tier, level, needed=needed, now=now, raw=raw), index)
        if state.paused_until > now:
            # Its buckets are empty because of the pause, which is what people need to know.
            look.tier = None
        return look

    def _wait_for_place(
        self, scope: str, tier: Tier, level: Level, ahead: int, now: float
    ) -> float:
        held = self._scope(scope).places.setdefault(tier.key, {})
        for call_id in [call_id for call_id, until in held.items() if until <= now]:
            del held[call_id]
        missing = ahead + 1 - (tier.limit - len(held))
        if missing <= 0:
            return 0.0
        turns = missing - 1 + _FIRST
        least, most = PLACE_WAIT_US
        usual = level.used if level.used > 0 else USUAL_HOLD_US
        return min(most, max(least, math.ceil(turns * usual / tier.limit)))

    def _deny(self, ask: Ask, looks: list[_Look], longest: float, now: float) -> Verdict:
        at = next(i for i, look in enumerate(looks) if look.wait == longest)
        scope, look = ask.scopes[at], looks[at]
        if look.tier is not None:
            level = look.levels[look.tier]
            level.denials += 1
            level.waited_us += longest
            self._scope(scope.key).levels[scope.tiers[look.tier].key] = level
        for i, other in enumerate(ask.scopes):
            if i != at and self._scope(other.key).line.alive_until > now:
                self._scope(other.key).line.step_aside(ask.waiter, now)
        self._waits_at[ask.waiter] = scope.key
        self._scope(scope.key).line.join(
            ask.waiter,
            tenant=ask.tenant,
            cost=_cost(scope, ask),
            amounts=ask.amounts,
            now=now,
            wait=longest,
        )
        return Verdict(status=Status.DENIED, wait_us=int(longest), scope=at, tier=look.tier)

    def _grant(self, ask: Ask, looks: list[_Look], now: float) -> None:
        grant = _Grant(at=now, charges=[], places=[])
        for scope, look in zip(ask.scopes, looks, strict=True):
            state = self._scope(scope.key)
            for tier, level in zip(scope.tiers, look.levels, strict=True):
                amount = ask.amounts.get(tier.unit, 0)
                if tier.counting is Counting.CONCURRENT or amount > 0:
                    level.grants += 1
                    state.levels[tier.key] = level
                if tier.counting is Counting.CONCURRENT:
                    state.places[tier.key][ask.call_id] = now + self._lease_us
                    grant.places.append((scope.key, tier.key))
                    continue
                if amount <= 0:
                    continue
                if tier.counting is Counting.BUCKET:
                    levels.take(tier, level, amount=float(amount), now=now)
                else:
                    level.used += amount
                grant.charges.append(_Charge(scope.key, tier, amount, level.at))
            if state.line.alive_until > now:
                state.line.served(ask.waiter, tenant=ask.tenant, cost=_cost(scope, ask))
        self._grants[ask.call_id] = grant

    def _correct(self, charge: _Charge, delta: float, granted_at: float, now: float) -> None:
        level = self._scope(charge.scope).levels.get(charge.tier.key)
        if level is None or delta == 0:
            return
        if charge.tier.counting is Counting.BUCKET:
            levels.correct(charge.tier, level, delta=delta, granted_at=granted_at, now=now)
        elif level.at == charge.at:
            level.used = max(0.0, level.used + delta)

    def _free(self, call_id: str, grant: _Grant, now: float | None) -> None:
        """Give places back; with a time, learn how long they were held."""
        for scope, tier in grant.places:
            state = self._scope(scope)
            was_held = state.places.get(tier, {}).pop(call_id, None) is not None
            level = state.levels.get(tier)
            if now is not None and was_held and level is not None:
                lasted = now - grant.at
                usual = level.used
                level.used = lasted if usual == 0 else usual + _LATEST * (lasted - usual)

    def _renew(self, call_id: str, grant: _Grant, now: float) -> None:
        for scope, tier in grant.places:
            held = self._scope(scope).places.get(tier, {})
            # A place that was given up, and may be another's by now, is not taken again.
            if call_id in held:
                held[call_id] = now + self._lease_us


def _wait_in(tier: Tier, level: Level, *, needed: float, now: float, raw: float) -> float:
    if tier.counting is Counting.BUCKET:
        return levels.wait_in_bucket(tier, level, needed=needed, now=now)
    return levels.wait_in_window(tier, level, needed=needed, raw=raw)


def _cost(scope: LimitedScope, ask: Ask) -> float:
    """Virtual time that a call takes: of the tier of which it takes the greatest share."""
    shares = [1.0]
    for tier in scope.tiers:
        if tier.counting is Counting.CONCURRENT:
            shares.append(USUAL_HOLD_US / tier.limit)
        else:
            amount = ask.amounts.get(tier.unit, 0)
            shares.append(amount * tier.period_us / tier.limit)
    return math.floor(max(shares)) / ask.weight
