"""One look for every state, wherever it is drawn: an icon and a word beside each colour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    icon: str
    fill: str
    stroke: str
    is_dashed: bool = False


PALETTE: Final[Mapping[str, Look]] = {
    "pending": Look(icon="\u25cb", fill="#e5e7eb", stroke="#6b7280"),
    "ready": Look(icon="\u25cb", fill="#e5e7eb", stroke="#6b7280"),
    "queued": Look(icon="\u25f7", fill="#cbd5e1", stroke="#475569"),
    "running": Look(icon="\u25b6", fill="#bfdbfe", stroke="#1d4ed8"),
    "waiting": Look(icon="\u25d4", fill="#fde68a", stroke="#b45309"),
    "paused": Look(icon="\u2016", fill="#fde68a", stroke="#b45309"),
    "completed": Look(icon="\u2713", fill="#bbf7d0", stroke="#15803d"),
    "partially_completed": Look(icon="\u25d1", fill="#d9f99d", stroke="#4d7c0f"),
    "skipped": Look(icon="\u21b7", fill="#f3f4f6", stroke="#9ca3af", is_dashed=True),
    "failed": Look(icon="\u2717", fill="#fecaca", stroke="#b91c1c"),
    "cancelled": Look(icon="\u2298", fill="#ddd6fe", stroke="#6d28d9"),
    "budget_exceeded": Look(icon="$", fill="#fed7aa", stroke="#c2410c"),
}
