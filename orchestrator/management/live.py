"""A run as a live tree in the terminal; plain lines where it is none."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from costs.core.money import format_usd
from orchestrator.core.state import RunStatus, is_terminal
from orchestrator.dispatch.live_text import Hearing
from orchestrator.selectors.summary import StepLine, run_state, step_lines
from orchestrator.selectors.waits import Wait
from tenants.scope import tenant_scope

STYLES = {
    "pending": ("·", "dim"),
    "ready": ("·", "dim"),
    "queued": ("◦", "dim"),
    "running": ("▶", "blue"),
    "waiting": ("⏸", "yellow"),
    "paused": ("⏸", "yellow"),
    "completed": ("✔", "green"),
    "partially_completed": ("✔", "yellow"),
    "skipped": ("⤼", "dim"),
    "failed": ("✘", "red"),
    "cancelled": ("⊘", "magenta"),
    "budget_exceeded": ("$", "dark_orange"),
}
_LOOK_EVERY_SECONDS = 0.25
# How many steps are shown as they write, and how much of each.
_MOST_WRITING = 3
_SHOWN_LINES = 4
_SHOWN_CHARACTERS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    status: RunStatus
    reason: str
    steps: tuple[StepLine, ...]

    @property
    def sentence(self) -> Text:
        return Text.assemble("Run ", _badge(self.status), f" {self.reason}".rstrip())


def watch(tenant_id: UUID, run_id: UUID) -> RunStatus:
    """Show the run until it has ended; its final status. Ctrl-C raises, and the run goes on."""
    console = Console(stderr=True)
    show = _live if console.is_terminal else _lines
    look = show(console, tenant_id, run_id)
    console.print(_table(look))
    console.print(look.sentence)
    return look.status


def _live(console: Console, tenant_id: UUID, run_id: UUID) -> _Look:
    with (
        Hearing(run_id) as hearing,
        Live(console=console, refresh_per_second=8, transient=True) as live,
    ):
        while True:
            look = _look(tenant_id, run_id)
            live.update(Group(_table(look), look.sentence, *_said(look, hearing)))
            if is_terminal(look.status):
                return look
            _pause()


def _said(look: _Look, hearing: Hearing) -> Iterator[Text]:
    """The end of what the steps that are at work have written, as far as there is room."""
    writing = [
        (step.name, hearing.of(step.name)) for step in look.steps if step.status == "running"
    ]
    for name, text in [pair for pair in writing if pair[1]][-_MOST_WRITING:]:
        end = "\n".join(text.rstrip()[-_SHOWN_CHARACTERS:].splitlines()[-_SHOWN_LINES:])
        yield Text(f"\n{name} writes", style="dim")
        # Terminals obey control characters, and a model may write any.
        yield Text("".join(each for each in end if each == "\n" or each.isprintable()))


def _lines(console: Console, tenant_id: UUID, run_id: UUID) -> _Look:
    told: dict[str, str] = {}
    while True:
        look = _look(tenant_id, run_id)
        for name, line in _news(look):
            if told.get(name) != line:
                told[name] = line
                _print(console, line)
        if is_terminal(look.status):
            return look
        _pause()


def _print(console: Console, line: str) -> None:
    if line:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _news(look: _Look) -> Iterator[tuple[str, str]]:
    """A line for each step, and one for a run that stands still."""
    for step in look.steps:
        yield step.name, f"{step.name}: {_state(step)}"
    yield "", f"Run paused: {look.reason}" if look.status == RunStatus.PAUSED else ""


def _state(step: StepLine) -> str:
    state = step.status
    if step.wait and not step.wait.is_due:
        return f"{state} {_until(step.wait)}: {step.error}".removesuffix(": ")
    if step.status == "running" and step.attempt > 1:
        return f"{state}, attempt {step.attempt}"
    return state


def _until(wait: Wait) -> str:
    if wait.until is None:
        return f"for {wait.gate}"
    return f"for {wait.gate}, until {wait.until:%H:%M:%S} UTC"


def _pause() -> None:
    threading.Event().wait(_LOOK_EVERY_SECONDS)


def _look(tenant_id: UUID, run_id: UUID) -> _Look:
    with tenant_scope(tenant_id):
        status, reason = run_state(run_id)
        return _Look(status=RunStatus(status), reason=reason, steps=tuple(step_lines(run_id)))


def _shown_name(step: StepLine) -> str:
    """Below the step that it belongs to, a name alone tells enough."""
    return f"  {step.name.rpartition('.')[2]}" if step.depth else step.name


def _badge(status: str) -> Text:
    icon, style = STYLES[status]
    return Text(f"{icon} {status}", style=style)


def _table(look: _Look) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("Step", "State", "Model", "Worker"):
        table.add_column(heading)
    for heading in ("Tries", "Tokens in", "out", "Cost", "Time"):
        table.add_column(heading, justify="right")
    for step in look.steps:
        table.add_row(
            _shown_name(step),
            Text.assemble(_badge(step.status), f" {step.progress}".rstrip()),
            step.model,
            step.worker,
            str(step.attempt or ""),
            str(step.input_tokens or ""),
            str(step.output_tokens or ""),
            format_usd(step.cost_nano),
            f"{step.seconds:.1f} s" if step.seconds is not None else "",
        )
        if step.wait and not step.wait.is_due:
            table.add_row("", Text(_until(step.wait), style="yellow"))
        if step.error:
            table.add_row("", Text(step.error, style="red"))
    own = [step for step in look.steps if not step.depth]
    total_in = sum(step.input_tokens for step in own)
    total_out = sum(step.output_tokens for step in own)
    total = format_usd(sum(step.cost_nano for step in own))
    table.add_row("total", "", "", "", "", str(total_in), str(total_out), total, "", style="bold")
    return table
