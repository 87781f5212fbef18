"""The limiter's decisions on the server: the interface of the model, without the time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from orchestrator.core.limits import LimitedScope, Unit
from orchestrator.core.limits.facts import COUNTED
from orchestrator.core.limits.model import Ask, Status, Verdict
from orchestrator.limits import keys as names
from orchestrator.limits.keys import Keys
from orchestrator.limits.scripts import (
    UNIT_NUMBERS,
    Argument,
    Scripts,
    amount_arguments,
    scopes_argument,
    source,
)

# A grant is remembered so long after it was last renewed, and so long once it is settled.
RECORD_MS: Final = 3_600_000
SETTLED_MS: Final = 600_000
# Calls let through just before an epoch ended are in the rows after this time.
GRACE_US: Final = 1_000_000
# After this time somebody else may restore.
PATIENCE_US: Final = 10_000_000
_ARGUMENTS: Final = 2_000
_CLOSED: Final = Status.CLOSED.value


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochState:
    """The name of the epoch that is open; else how long to wait, or that it is ours to open."""

    name: str = ""
    wait_us: int = 0

    @property
    def is_ours_to_open(self) -> bool:
        return not self.name and not self.wait_us


class Store:
    """Speaks with the server in the epoch that it was told of. Raises redis.RedisError."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        token: str,
        lease_us: int,
        tag: str = names.TAG,
        grace_us: int = GRACE_US,
        sources: Callable[[str], str] = source,
    ) -> None:
        self._client = client
        self._token = token
        self._tag = tag
        self._lease_us = lease_us
        self._grace_us = grace_us
        self._epoch_keys = [names.meta_key(tag), names.restoring_key(tag)]
        self._scripts = Scripts(client, before_loading=self.look_at_epoch, sources=sources)
        self._arguments: dict[int, tuple[tuple[LimitedScope, ...], str]] = {}
        self.keys: Keys | None = None

    def look_at_epoch(self) -> EpochState:
        """What is open, or who is to open it. Work goes on in the epoch that this finds."""
        arguments = (self._token, self._grace_us, PATIENCE_US)
        answer, detail = self._scripts.run_unloaded("epoch", self._epoch_keys, arguments)
        if answer != 1:
            self.keys = None
            return EpochState(wait_us=0 if answer == 2 else max(1, int(detail)))
        name = detail.decode()
        self.keys = Keys(name, self._tag)
        return EpochState(name=name)

    def leave_epoch(self) -> None:
        self.keys = None

    def may_evict(self) -> bool:
        """Whether a full server would forget keys: limits then would let too much through."""
        return may_evict(self._client)

    def time(self) -> int:
        seconds, microseconds = self._client.time()
        return int(seconds) * 1_000_000 + int(microseconds)

    def put_back(self, call_id: str, places: Sequence[tuple[str, str]], *, epoch: str) -> None:
        """Take places, as (scope, tier), in an epoch that is not open yet."""
        keys = Keys(epoch, self._tag)
        at = [keys.place(scope, tier) for scope, tier in places]
        of: list[str] = [part for scope, tier in places for part in (keys.scope(scope), tier)]
        arguments: list[Argument] = [call_id, self._lease_us, RECORD_MS, *of]
        self._scripts.run("put_back", [keys.record(call_id), *at], arguments)

    def open(self, epoch: str, *, idle_us: int) -> bool:
        """Open the epoch, unless somebody else has been asked to meanwhile."""
        arguments = (self._token, epoch, idle_us)
        if not self._scripts.run("open", self._epoch_keys, arguments):
            return False
        self.keys = Keys(epoch, self._tag)
        return True

    def admit(self, ask: Ask) -> Verdict:
        keys = self.keys
        if keys is None:
            return Verdict(status=Status.CLOSED)
        touched = [
            keys.meta,
            keys.record(ask.call_id),
            keys.line_of(ask.waiter),
            *map(keys.flag, ask.budgets),
            *(keys.scope(scope.key) for scope in ask.scopes),
        ]
        arguments = [
            keys.epoch,
            ask.call_id,
            ask.waiter,
            ask.tenant,
            ask.weight,
            self._lease_us,
            RECORD_MS,
            ask.hold_nano,
            *amount_arguments(ask.amounts),
            len(ask.budgets),
            self._scopes_argument(ask.scopes),
        ]
        return _verdict(self._scripts.run("admit", touched, arguments))

    def seed(self, scope: LimitedScope, used: Mapping[str, float]) -> None:
        """Tell tiers, by their keys, what they granted in their period."""
        given = [repr(used[tier.key]) if tier.key in used else "" for tier in scope.tiers]
        self._in_scope("seed", scope, scopes_argument([scope]), *given)

    def settle(self, call_id: str, used: Mapping[Unit, int]) -> bool:
        real = [used.get(unit, "") for unit in COUNTED]
        return self._of_call("settle", call_id, SETTLED_MS, *real)

    def release(self, call_id: str) -> bool:
        return self._of_call("release", call_id)

    def leave(self, waiters: Sequence[str]) -> None:
        keys = self.keys
        if keys is not None and waiters:
            touched = [keys.meta, *map(keys.line_of, waiters)]
            self._checked("leave", touched, (keys.epoch, *waiters))

    def renew(self, call_ids: Sequence[str]) -> None:
        keys = self.keys
        if keys is not None and call_ids:
            arguments = (keys.epoch, self._lease_us, RECORD_MS, *call_ids)
            self._checked("renew", [keys.meta, *keys.records(call_ids)], arguments)

    def pause(self, scope: LimitedScope, *, seconds: float) -> None:
        self._in_scope("pause", scope, round(seconds * 1_000_000), scopes_argument([scope]))

    def lower(self, scope: LimitedScope, left: Mapping[Unit, int]) -> None:
        pairs = [n for unit, amount in left.items() for n in (UNIT_NUMBERS[unit], amount)]
        self._in_scope("lower", scope, scopes_argument([scope]), *pairs)

    def flag(self, budget: str, left_nano: int, *, seconds: float) -> None:
        if self.keys is not None:
            self._client.set(self.keys.flag(budget), left_nano, px=round(seconds * 1000))

    def clear_flag(self, budget: str) -> None:
        if self.keys is not None:
            self._client.delete(self.keys.flag(budget))

    def _scopes_argument(self, scopes: tuple[LimitedScope, ...]) -> str:
        # The same few tuples come again and again; comparing them would cost more than this.
        known = self._arguments.get(id(scopes))
        if known is None or known[0] is not scopes:
            if len(self._arguments) >= _ARGUMENTS:
                self._arguments.clear()
            known = self._arguments[id(scopes)] = (scopes, scopes_argument(scopes))
        return known[1]

    def _in_scope(self, script: str, scope: LimitedScope, *arguments: Any) -> None:
        keys = self.keys
        if keys is not None:
            touched = [keys.meta, keys.scope(scope.key)]
            self._checked(script, touched, (keys.epoch, *arguments))

    def _of_call(self, script: str, call_id: str, *arguments: Any) -> bool:
        keys = self.keys
        if keys is None:
            return False
        touched = [keys.meta, keys.record(call_id)]
        return self._checked(script, touched, (keys.epoch, call_id, *arguments)) == 1

    def _checked(self, script: str, touched: Sequence[str], arguments: Sequence[Any]) -> int:
        answer = int(self._scripts.run(script, touched, arguments))
        if answer == _CLOSED:
            self.keys = None
        return answer


def may_evict(client: redis.Redis) -> bool:
    return bool(client.info("memory").get("maxmemory_policy") != "noeviction")


def _verdict(answer: list[int]) -> Verdict:
    status = Status(answer[0])
    if status is Status.UNSEEDED:
        pairs = zip(answer[1::2], answer[2::2], strict=True)
        return Verdict(status=status, unseeded=tuple((s - 1, t - 1) for s, t in pairs))
    if status not in (Status.DENIED, Status.NEVER):
        return Verdict(status=status)
    _, wait, scope, tier = answer
    if not scope:
        return Verdict(status=status, wait_us=wait, budget=tier - 1)
    at = tier - 1 if tier else None
    return Verdict(status=status, wait_us=wait, scope=scope - 1, tier=at)
