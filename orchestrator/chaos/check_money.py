"""Whether budgets and limits held to the last nano-dollar and request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final
from uuid import UUID

from orchestrator.chaos.money_rows import Bucket, MoneyEvidence, Row, Span
from orchestrator.chaos.verdict import UNFORESEEN
from orchestrator.core.limits import Unit

# For how long a caller may be denied while there is budget, and all callers by limits.
MOST_DENIED_SECONDS: Final = 10.0
# A rounding of what a bucket holds.
_SLACK: Final = 1e-3


def budget_is_never_exceeded(evidence: MoneyEvidence) -> Iterator[str]:
    """Spent and held were never above the limit, and nothing was overspent."""
    for seen in evidence.samples:
        if seen["spent_nano"] + seen["held_nano"] > seen["limit_nano"] or seen["overrun_nano"]:
            yield str(seen)


def run_stops_at_its_budget(evidence: MoneyEvidence) -> Iterator[str]:
    """Once nobody raised its budget any more, the run ended for want of money."""
    if evidence.run["status"] != "budget_exceeded":
        yield f"it is {evidence.run['status']}: {evidence.run['status_reason']}"


def spent_equals_ledger(evidence: MoneyEvidence) -> Iterator[str]:
    """At every moment as much was spent as the ledger says, and in the end as calls and run say."""
    for seen in evidence.samples:
        if seen["spent_nano"] != seen["ledger_nano"]:
            yield f"{seen['spent_nano']} are spent, the ledger says {seen['ledger_nano']}"
    spent = evidence.samples[-1]["spent_nano"]
    by_calls = sum(call["cost_nano"] for call in evidence.calls)
    if not spent == by_calls == evidence.run["cost_nano"]:
        yield f"{spent} are spent, {by_calls} by calls, {evidence.run['cost_nano']} by the run"


def holds_are_of_open_calls(evidence: MoneyEvidence) -> Iterator[str]:
    """At every moment as much was held as open calls hold, and in the end nothing."""
    for seen in evidence.samples:
        if seen["held_nano"] != seen["open_nano"]:
            yield f"{seen['held_nano']} are held, by open calls {seen['open_nano']}"
    if evidence.samples[-1]["held_nano"]:
        yield f"{evidence.samples[-1]['held_nano']} are held in the end"
    for call in evidence.calls:
        if call["status"] == "open":
            yield f"call {call['id']} is open in the end"


def no_window_is_above_its_bound(evidence: MoneyEvidence) -> Iterator[str]:
    """In no window was more let through than its length times the refill, and the capacity."""
    for bucket in evidence.buckets:
        excess = most_above(evidence, bucket)
        if excess > _SLACK:
            yield f"{bucket}: {excess:.3f} too many"


def most_above(evidence: MoneyEvidence, bucket: Bucket) -> float:
    """By how much the worst window is above its bound; negative if all are below.

    A call was let through after its id was made and before its row was. Counted for a window are
    those that were for certain let through in it.
    """
    calls = [(_made_at(call["id"]), call["began"], _taken(call, bucket)) for call in evidence.calls]
    by_end = sorted(calls, key=lambda call: call[1])
    worst = -float(bucket.capacity)
    for since in {made for made, _, _ in calls}:
        inside = [(end, amount) for made, end, amount in by_end if made >= since]
        taken = accumulate(amount for _, amount in inside)
        room = (bucket.per_second * (end - since) + bucket.capacity for end, _ in inside)
        worst = max(worst, max(map(float.__sub__, map(float, taken), room)))
    return worst


def _made_at(call_id: UUID) -> float:
    """The time in a version 7 id, in seconds."""
    return (call_id.int >> 80) / 1000


def _taken(call: Row, bucket: Bucket) -> int:
    if bucket.unit is Unit.REQUESTS:
        return 1
    # A call in doubt may have taken what it asked for; one that failed took nothing.
    return int(call["most_output" if call["status"] == "in_doubt" else "output_tokens"])


def no_place_is_given_twice(evidence: MoneyEvidence) -> Iterator[str]:
    """Never were more calls under way than there are places."""
    most = most_at_once(evidence)
    if most > evidence.places:
        yield f"{most} calls at once in {evidence.places} places"


def most_at_once(evidence: MoneyEvidence) -> int:
    """By their rows, which are opened once a place is taken and closed before it is given back."""
    steps = [(call["began"], 1) for call in evidence.calls]
    steps += [(call["ended"], -1) for call in evidence.calls if call["ended"]]
    return max(accumulate(step for _, step in sorted(steps)), default=0)


def places_are_given_back(evidence: MoneyEvidence) -> Iterator[str]:
    """In the end no call has a place at the limiter."""
    if evidence.places_taken:
        yield f"{evidence.places_taken} places are taken"


def nobody_with_budget_is_denied_for_long(evidence: MoneyEvidence) -> Iterator[str]:
    """Nobody waited for more than 10 s for a budget that had not stopped the run."""
    for agent_run, seconds in denials(evidence, by="budget"):
        if seconds > MOST_DENIED_SECONDS:
            yield f"{agent_run} was denied for {seconds:.1f} s"


def limits_let_calls_through(evidence: MoneyEvidence) -> Iterator[str]:
    """At no time was nobody let through for more than 10 s."""
    longest = longest_gap(evidence)
    if longest > MOST_DENIED_SECONDS:
        yield f"nobody was let through for {longest:.1f} s"


def longest_gap(evidence: MoneyEvidence) -> float:
    began, ended = evidence.load
    moments = [call["began"] for call in evidence.calls if began < call["began"] < ended]
    spans = pairwise([began, *moments, ended])
    return max(_unexcused(span, evidence.excused) for span in spans)


def denials(evidence: MoneyEvidence, *, by: str) -> Iterator[tuple[UUID, float]]:
    """For how long gates of a kind denied agent runs their next call.

    The times for which they were told to wait and those in which a worker asked for them, not
    those in which they had to be found a worker.
    """
    calls = {(call["agent_run_id"], call["attempt"]): call["began"] for call in evidence.calls}
    for agent_run, attempts in evidence.attempts.items():
        denied = 0.0
        for attempt in attempts:
            place = agent_run, attempt["number"]
            wait, opened = evidence.waits.get(place), calls.get(place)
            if wait and wait["reason"] == by:
                denied += _unexcused((attempt["began"], wait["until"]), evidence.excused)
            elif opened and denied:
                denied += _unexcused((attempt["began"], opened), evidence.excused)
            if opened or attempt["outcome"] != "waited":
                yield agent_run, denied
                denied = 0.0
        yield agent_run, denied


def _unexcused(span: Span, excused: Sequence[Span]) -> float:
    began, ended = span
    if ended <= began:
        return 0.0
    return (
        ended - began - sum(max(0.0, min(ended, to) - max(began, since)) for since, to in excused)
    )


def callers_foresaw_everything(evidence: MoneyEvidence) -> Iterator[str]:
    """No process logged an error that it had not foreseen."""
    for log in evidence.logs:
        for line in log.read_text(errors="replace").splitlines():
            if UNFORESEEN.search(line):
                yield f"{log.stem}: {line[:500]}"


CHECKS: Final[tuple[Callable[[MoneyEvidence], Iterator[str]], ...]] = (
    budget_is_never_exceeded,
    run_stops_at_its_budget,
    spent_equals_ledger,
    holds_are_of_open_calls,
    no_window_is_above_its_bound,
    no_place_is_given_twice,
    places_are_given_back,
    nobody_with_budget_is_denied_for_long,
    limits_let_calls_through,
    callers_foresaw_everything,
)
