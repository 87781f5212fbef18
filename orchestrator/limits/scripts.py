"""The scripts on the server, and the order of their arguments."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import redis
from redis.exceptions import NoScriptError

from orchestrator.core.limits import COUNTED, Counting, LimitedScope, Tier, Unit

_FOLDER = Path(__file__).parent / "lua"
_NAMES = (
    "epoch",
    "open",
    "put_back",
    "admit",
    "settle",
    "release",
    "leave",
    "renew",
    "pause",
    "lower",
    "seed",
)
_KINDS: Final[Mapping[Counting, str]] = {
    Counting.BUCKET: "b",
    Counting.WINDOW: "w",
    Counting.CALENDAR: "d",
    Counting.CONCURRENT: "c",
}
UNIT_NUMBERS: Final[Mapping[Unit, int]] = {unit: i + 1 for i, unit in enumerate(COUNTED)}
DAY_MS: Final = 86_400_000

Argument: TypeAlias = str | int | float | bytes


def source(name: str) -> str:
    common = (_FOLDER / "common.lua").read_text(encoding="utf-8")
    return common + "\n" + (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


class Scripts:
    """Runs the scripts by their digests.

    A server that was restarted knows none of them. Whoever brings them makes sure first that
    the epoch is of this server's life (`before_loading`), so that nobody ever reads what a
    restart has made stale.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        before_loading: Callable[[], Any],
        sources: Callable[[str], str] = source,
    ) -> None:
        self._client = client
        self._before_loading = before_loading
        self._sources = {name: sources(name) for name in _NAMES}
        self._digests = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in self._sources.items()
        }

    def run(self, name: str, keys: Sequence[str], arguments: Iterable[Argument]) -> Any:
        digest, given = self._digests[name], (*keys, *arguments)
        try:
            return self._client.evalsha(digest, len(keys), *given)
        except NoScriptError:
            self._before_loading()
            self._load()
            return self._client.evalsha(digest, len(keys), *given)

    def run_unloaded(self, name: str, keys: Sequence[str], arguments: Iterable[Argument]) -> Any:
        """Without leaving the script behind for others."""
        return self._client.eval(self._sources[name], len(keys), *keys, *arguments)

    def _load(self) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for text in self._sources.values():
            pipeline.script_load(text)
        pipeline.execute()


def scopes_argument(scopes: Sequence[LimitedScope]) -> str:
    """Scopes as `read_scopes` in common.lua reads them."""
    return json.dumps(
        [[_time_to_live_ms(scope), *map(_tier_parts, scope.tiers)] for scope in scopes],
        separators=(",", ":"),
    )


def _tier_parts(tier: Tier) -> list[Any]:
    parts = [
        tier.key,
        _KINDS[tier.counting],
        UNIT_NUMBERS.get(tier.unit, 0),
        tier.limit,
        tier.capacity,
        tier.period_us,
    ]
    return [*parts, tier.days] if tier.counting is Counting.CALENDAR else parts


def amount_arguments(amounts: Mapping[Unit, int]) -> list[Argument]:
    return [amounts.get(unit, 0) for unit in COUNTED]


def _time_to_live_ms(scope: LimitedScope) -> int:
    """Until what is counted has no effect any more, and counters for a day."""
    return max(DAY_MS, *(_memory_ms(tier) for tier in scope.tiers), 0)


def _memory_ms(tier: Tier) -> int:
    return 0 if tier.counting is Counting.CONCURRENT else tier.memory_us // 1000 + 60_000
