"""Every key of the limiter in Redis: one hash tag, so that all lie in one slot of a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

TAG = "{muster-limits}"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one epoch. What an earlier one knew is out of sight, and runs out by itself."""

    epoch: str
    tag: str = TAG

    @property
    def meta(self) -> str:
        return meta_key(self.tag)

    def record(self, call_id: object) -> str:
        return f"{self.tag}:{self.epoch}:g:{call_id}"

    def flag(self, budget: str) -> str:
        return f"{self.tag}:{self.epoch}:b:{budget}"

    def line_of(self, waiter: str) -> str:
        return f"{self.tag}:{self.epoch}:w:{waiter}"

    def scope(self, key: str) -> str:
        return f"{self.tag}:{self.epoch}:s:{key}"

    def place(self, scope: str, tier: str) -> str:
        return f"{self.scope(scope)}:p:{tier}"

    def records(self, call_ids: Sequence[object]) -> list[str]:
        return [self.record(call_id) for call_id in call_ids]


def meta_key(tag: str = TAG) -> str:
    return f"{tag}:meta"


def restoring_key(tag: str = TAG) -> str:
    return f"{tag}:restoring"
