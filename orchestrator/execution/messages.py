"""Messages between agents of a run: stored first, then told to whoever waits."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid5

from django.conf import settings
from psycopg.types.json import Json
from uuid_utils.compat import uuid7

from agents_app.core.bus import (
    MAX_CONDITION_BYTES,
    MAX_READ,
    MAX_READ_BYTES,
    Incoming,
    Outgoing,
    Sent,
    Wanted,
)
from agents_app.core.errors import MessageRefusedError
from orchestrator.core.conditions import ROOTS, Condition, compile_condition
from orchestrator.core.errors import ConditionError
from orchestrator.core.places import surroundings_of
from orchestrator.execution import engine_db
from orchestrator.execution.claims import Claim
from orchestrator.execution.coalescing import Coalescer
from orchestrator.execution.crashpoints import crash_here
from orchestrator.execution.doorbell import ALL, LOOK_SECONDS, Waiter, doorbell
from orchestrator.execution.engine_db import Row
from orchestrator.execution.fenced import Fenced
from orchestrator.execution.leases import Lease

MAX_SUBSCRIPTIONS: Final = 20
# Among how many unread messages the most urgent are looked for.
WINDOW: Final = 1_000
# More at once would keep the first waiting for the last.
_MOST: Final = 64

_SEND = "SELECT * FROM muster_send_messages(%s, %s::json, %s, %s)"
_TAKE = "SELECT * FROM muster_take_messages(%s, %s::json, %s)"
_SUBSCRIBE = "SELECT muster_subscribe(%s, %s, %s, %s, %s, %s, %s) AS verdict"
_REFUSALS: Final = {
    "no_receiver": "there is no step {to!r} in this run",
    "no_message": "there is no message {reply_to} in this run to reply to",
    "receiver_ended": "its receiver has ended and reads nothing more",
    "receiver_full": "its receiver has {inbox:,} unread messages; send it no more for now",
    "run_full": "the run has {most:,} messages, the most that it may have",
}


@dataclass(frozen=True, slots=True)
class _Ask:
    """One thread's part of a statement: a message to be sent, or a reader."""

    tenant_id: UUID
    row: dict[str, Any]


@dataclass(slots=True)
class _Taking:
    """A read under way. What conditions passed by was taken under a name of its own each time."""

    wanted: Wanted
    name: UUID
    passed: int = 0

    @property
    def call_id(self) -> UUID:
        return uuid5(self.name, str(self.passed)) if self.passed else self.name


class Messages:
    """The message bus of one attempt. Waits hold no database connection."""

    def __init__(self, claim: Claim, lease: Lease, *, capabilities: Collection[str] = ()) -> None:
        self._claim = claim
        self._fenced = Fenced(claim, lease)
        self._capabilities = sorted(capabilities)
        self._waiter: Waiter | None = None
        # As of its last look: only a ring, or a loss of one, can mean that there is more.
        self._has_read_all = False

    def send(self, message: Outgoing, *, call_id: UUID) -> Sent:
        if fault := message.fault():
            raise MessageRefusedError("invalid", fault)
        ask = self._ask(message, call_id)
        row = self._fenced.checked(self._fenced.persistently(lambda: _sends(ask)))
        if row["verdict"] in _REFUSALS:
            raise MessageRefusedError(row["verdict"], _refusal(row["verdict"], message))
        return Sent(id=row["id"], number=row["place"], correlation_id=row["correlation"])

    def read(self, wanted: Wanted, *, call_id: UUID) -> Sequence[Incoming]:
        taking = _Taking(wanted, call_id)
        if wanted.wait_seconds <= 0:
            return self._next(taking)
        waiter, until = self._listen(), self._fenced.until(wanted.wait_seconds)
        found: Sequence[Incoming] = ()
        is_due = not self._has_read_all
        while not found:
            if is_due or waiter.rung.is_set():
                # Before the look: a ring during it counts for the next.
                waiter.rung.clear()
                found = self._next(taking)
            left = until - time.monotonic()
            if found or left <= 0 or self._fenced.lease.is_over:
                break
            waiter.rung.wait(min(left, LOOK_SECONDS))
            is_due = True
        return found

    def _listen(self) -> Waiter:
        """From the first wait on, so that whoever waits again and again looks once a ring."""
        if self._waiter is None:
            self._waiter = doorbell().waiter(self._claim.run_id, self._claim.agent_run_id)
            self._has_read_all = False
        return self._waiter

    def _next(self, taking: "_Taking") -> Sequence[Incoming]:
        """What there is now, without what conditions pass by."""
        while rows := self._take(taking.wanted, taking.call_id):
            self._has_read_all = bool(rows[0]["is_all"])
            if found := [_incoming(row) for row in rows if _is_wanted(row)]:
                return found
            taking.passed += 1
        return ()

    def subscribe(self, topic: str, *, condition: str = "") -> None:
        _check_subscription(topic, condition)
        claim = self._claim
        which = (claim.tenant_id, claim.agent_run_id, claim.attempt)
        row = self._fenced.row(_SUBSCRIBE, *which, topic, condition, MAX_SUBSCRIPTIONS, WINDOW)
        if row["verdict"] == "full":
            told = f"an agent has at most {MAX_SUBSCRIPTIONS} subscriptions"
            raise MessageRefusedError("too_many_subscriptions", told)
        self._has_read_all = False

    def _ask(self, message: Outgoing, call_id: UUID) -> _Ask:
        claim = self._claim
        row = {
            "sender": str(claim.agent_run_id),
            "attempt": claim.attempt,
            "call": str(call_id),
            "id": str(uuid7()),
            "places": _places(message.to, claim.step),
            "reply_to": str(message.reply_to) if message.reply_to else None,
            "topic": message.topic,
            "capability": message.capability,
            "type": message.type,
            "priority": message.priority,
            "content": message.content,
        }
        return _Ask(claim.tenant_id, row)

    def _take(self, wanted: Wanted, call_id: UUID) -> Sequence[Row]:
        claim = self._claim
        reader = {
            "run": str(claim.run_id),
            "agent_run": str(claim.agent_run_id),
            "attempt": claim.attempt,
            "call": str(call_id),
            "most": max(1, min(wanted.most, MAX_READ)),
            "bytes": MAX_READ_BYTES,
            "types": wanted.types,
            "correlation": str(wanted.correlation_id) if wanted.correlation_id else None,
            "capabilities": self._capabilities,
        }
        rows = self._fenced.persistently(lambda: _takes(_Ask(claim.tenant_id, reader)))
        if rows:
            self._fenced.checked(rows[0])
        return rows


def _send_all(letters: Sequence[_Ask]) -> list[Row]:
    """Store messages of one tenant together, then tell those who wait for them."""
    most, inbox = settings.MUSTER_MAX_MESSAGES, settings.MUSTER_MAX_UNREAD
    told = Json([letter.row for letter in letters])
    rows = engine_db.many(_SEND, letters[0].tenant_id, told, most, inbox)
    crash_here("before_ring")
    rings: dict[UUID, list[UUID | str]] = {}
    for row in rows:
        if row["verdict"] == "sent":
            rings.setdefault(row["run"], []).append(row["receiver"] or ALL)
    if rings:
        doorbell().ring(rings)
    return rows


def _take_all(readers: Sequence[_Ask]) -> list[Sequence[Row]]:
    """What there is for readers of one tenant, together."""
    told = Json([reader.row for reader in readers])
    found: list[list[Row]] = [[] for _ in readers]
    for row in engine_db.many(_TAKE, readers[0].tenant_id, told, WINDOW):
        found[row["reader"] - 1].append(row)
    return [*found]


_takes: Coalescer[_Ask, Sequence[Row]] = Coalescer(
    _take_all,
    key=lambda reader: reader.tenant_id,
    most=_MOST,
    concerns_all=engine_db.is_away,
)
_sends: Coalescer[_Ask, Row] = Coalescer(
    _send_all,
    key=lambda letter: letter.tenant_id,
    most=_MOST,
    concerns_all=engine_db.is_away,
)


def _places(to: str, own: str) -> list[str] | None:
    """Where a step of that name may stand: beside the sender, else in the run."""
    if not to:
        return None
    return list(dict.fromkeys([surroundings_of(own).prefix + to, to]))


def _refusal(verdict: str, message: Outgoing) -> str:
    return _REFUSALS[verdict].format(
        to=message.to,
        reply_to=message.reply_to,
        inbox=settings.MUSTER_MAX_UNREAD,
        most=settings.MUSTER_MAX_MESSAGES,
    )


def _incoming(row: Row) -> Incoming:
    return Incoming(
        id=row["id"],
        number=row["number"],
        sender=row["sender"],
        type=row["type"],
        topic=row["topic"],
        priority=row["priority"],
        correlation_id=row["correlation"],
        content=row["content"],
        sent_at=row["sent_at"],
    )


def _is_wanted(row: Row) -> bool:
    """Whether one of the conditions of its subscriptions holds; else it is passed by."""
    conditions = row["conditions"]
    return conditions is None or any(not text or _holds(text, row) for text in conditions)


def _holds(condition: str, row: Row) -> bool:
    facts = {name: row[name] for name in ("type", "topic", "priority", "sender", "content")}
    try:
        return _compiled(condition).evaluate({"message": facts})
    except ConditionError:
        # Such as a field that this message does not have.
        return False


def _compiled(condition: str) -> Condition:
    # The others are known too, so that what reads them is refused.
    return compile_condition(condition, roots=ROOTS | {"message"})


def _check_subscription(topic: str, condition: str) -> None:
    if len(topic) > 100:
        raise MessageRefusedError("invalid", "a topic has at most 100 characters")
    if len(condition.encode()) > MAX_CONDITION_BYTES:
        told = f"a condition has at most {MAX_CONDITION_BYTES:,} bytes"
        raise MessageRefusedError("invalid", told)
    if not condition:
        return
    try:
        compiled = _compiled(condition)
    except ConditionError as error:
        raise MessageRefusedError("invalid", str(error)) from error
    if other := compiled.roots - {"message"}:
        told = f"a condition reads `message` alone, not {', '.join(sorted(other))}"
        raise MessageRefusedError("invalid", told)
