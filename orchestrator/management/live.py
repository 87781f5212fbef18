"""A run as a live tree in the terminal; plain lines where it is none."""

import threading
from dataclasses import dataclass
from uuid import UUID

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from costs.core.money import format_usd
from orchestrator.core.state import RunStatus
from orchestrator.selectors.summary import StepLine, run_state, step_lines
from tenants.scope import tenant_scope

STYLES = {
    "pending": ("·", "dim"),
    "ready": ("·", "dim"),
    "queued": ("◦", "dim"),
    "running": ("▶", "blue"),
    "waiting": ("⏸", "yellow"),
    "completed": ("✔", "green"),
    "partially_completed": ("✔", "yellow"),
    "skipped": ("⤼", "dim"),
    "failed": ("✘", "red"),
    "cancelled": ("⊘", "magenta"),
    "budget_exceeded": ("$", "dark_orange"),
}
_ENDED = frozenset(
    {
        RunStatus.COMPLETED,
        RunStatus.PARTIALLY_COMPLETED,
        RunStatus.FAILED,
        RunStatus.CANCELLED,
        RunStatus.BUDGET_EXCEEDED,
    }
)
_LOOK_EVERY_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    status: str
    reason: str
    steps: tuple[StepLine, ...]


def watch(tenant_id: UUID, run_id: UUID) -> str:
    """Show the run until it has ended; its final status. Ctrl-C leaves, the run goes on."""
    console = Console(stderr=True)
    try:
        show = _live if console.is_terminal else _lines
        look = show(console, tenant_id, run_id)
    except KeyboardInterrupt:
        console.print(f"The run goes on. Its id is {run_id}; see it in the admin or over the API.")
        return RunStatus.COMPLETED
    console.print(_table(look))
    console.print(Text.assemble("Run ", _badge(look.status), f" {look.reason}".rstrip()))
    return look.status


def _live(console: Console, tenant_id: UUID, run_id: UUID) -> _Look:
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        while True:
            look = _look(tenant_id, run_id)
            live.update(Group(_table(look), _badge(look.status)))
            if look.status in _ENDED:
                return look
            _pause()


def _lines(console: Console, tenant_id: UUID, run_id: UUID) -> _Look:
    told: dict[str, str] = {}
    while True:
        look = _look(tenant_id, run_id)
        for step in look.steps:
            if told.get(step.name) != step.status:
                told[step.name] = step.status
                console.print(f"{step.name}: {step.status}")
        if look.status in _ENDED:
            return look
        _pause()


def _pause() -> None:
    threading.Event().wait(_LOOK_EVERY_SECONDS)


def _look(tenant_id: UUID, run_id: UUID) -> _Look:
    with tenant_scope(tenant_id):
        status, reason = run_state(run_id)
        return _Look(status=status, reason=reason, steps=tuple(step_lines(run_id)))


def _badge(status: str) -> Text:
    icon, style = STYLES[status]
    return Text(f"{icon} {status}", style=style)


def _table(look: _Look) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("Step", "State", "Model", "Worker"):
        table.add_column(heading)
    for heading in ("Tokens in", "out", "Cost", "Time"):
        table.add_column(heading, justify="right")
    for step in look.steps:
        table.add_row(
            step.name,
            _badge(step.status),
            step.model,
            step.worker,
            str(step.input_tokens or ""),
            str(step.output_tokens or ""),
            format_usd(step.cost_nano),
            f"{step.seconds:.1f} s" if step.seconds is not None else "",
        )
        if step.error:
            table.add_row("", Text(step.error, style="red"))
    total_in = sum(step.input_tokens for step in look.steps)
    total_out = sum(step.output_tokens for step in look.steps)
    total = format_usd(sum(step.cost_nano for step in look.steps))
    table.add_row("total", "", "", "", str(total_in), str(total_out), total, "", style="bold")
    return table
