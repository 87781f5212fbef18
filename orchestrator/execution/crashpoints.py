"""Named places where the chaos suite lets a process die as in a power cut. Nothing without it."""

import os
import signal
from collections.abc import Mapping
from random import Random
from typing import Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

AGENT_POINTS: Final = (
    "after_claim",
    "after_choice",
    "before_send",
    "after_answer",
    "before_tools",
    "after_tool",
    "before_ring",
    "before_publish",
)
CONTROL_POINTS: Final = ("in_advance", "in_sweep", "before_batch", "after_batch", "in_batch")
_SEED: Final = "seed"


def crash_here(point: str) -> None:
    """Die here, with the chance that `MUSTER_CRASH_POINTS` gives the point."""
    if point in _chances and _dice.random() < _chances[point]:
        # Past all buffers: nothing else of this process will be heard of.
        os.write(2, f"crash point {point}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


def crash_chances(text: str) -> dict[str, float]:
    """From `after_claim=0.1,in_sweep=1,seed=7`, the seed among them."""
    found: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        if name not in (*AGENT_POINTS, *CONTROL_POINTS, _SEED):
            raise ImproperlyConfigured(f"MUSTER_CRASH_POINTS names no crash point with {name!r}.")
        try:
            found[name] = float(number)
        except ValueError:
            raise ImproperlyConfigured(f"MUSTER_CRASH_POINTS: {part!r} has no number.") from None
    return found


_given: Mapping[str, float] = crash_chances(settings.MUSTER_CRASH_POINTS)
_dice: Final = Random(_given.get(_SEED, 0.0))  # noqa: S311 - decides when to crash, guards nothing
_chances: Final = {name: chance for name, chance in _given.items() if name != _SEED}
