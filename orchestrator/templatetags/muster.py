"""How states, money, times and values look, in every template."""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import template
from django.utils.formats import localize
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from costs.core.money import usd_from_nano
from orchestrator.core.palette import PALETTE
from orchestrator.core.state import RunWait, WaitingReason
from orchestrator.markdown import to_html
from orchestrator.models import RunEvent
from orchestrator.selectors.waits import WAITS_FOR
from tenants.badges import state_badge
from tenants.kernel.clock import now

register = template.Library()
# A page is for reading; the whole value is one click away.
MAX_SHOWN = 100_000
MAX_PARTS = 20
_CENT = Decimal("0.01")


@register.filter
def badge(state: str) -> SafeString:
    """A state as icon, word and colour: never as colour alone."""
    return state_badge(state, PALETTE[state].icon, words(state))


@register.filter
def badge_of(state: str, word: str) -> SafeString:
    """Another word in the looks of a state."""
    return state_badge(state, PALETTE[state].icon, word)


# Others are before it; there is nothing else that it waits for.
_WAITS_ITS_TURN = {
    WaitingReason.WORKER,
    WaitingReason.TENANT_SHARE,
    WaitingReason.MAX_PARALLEL,
    RunWait.TURN,
    RunWait.CONTROL_WORKER,
}
# Of models, and of tools.
_CALLS = {
    "open": "running",
    "closed": "completed",
    "running": "running",
    "finished": "completed",
    "failed": "failed",
    "in_doubt": "waiting",
    "held": "waiting",
    "agreed": "ready",
}
_CALL_WORDS = {
    "open": "under way",
    "running": "under way",
    "closed": "answered",
    "held": "waits for approval",
    "agreed": "approved",
}
_OUTCOMES = {
    "completed": "completed",
    "failed": "failed",
    "lost": "cancelled",
    "handed_over": "cancelled",
    "waited": "waiting",
    "held": "waiting",
    "budget_exceeded": "budget_exceeded",
}


@register.filter
def call_badge(status: str) -> SafeString:
    return badge_of(_CALLS[status], _CALL_WORDS.get(status, words(status)))


_APPROVALS = {
    "open": "waiting",
    "approved": "completed",
    "rejected": "failed",
    "expired": "skipped",
    "withdrawn": "cancelled",
}


@register.filter
def approval_badge(status: str) -> SafeString:
    return badge_of(_APPROVALS[status], status)


@register.filter
def wait_badge(reason: str) -> SafeString:
    """A reason to wait, in the looks of the state that it leaves agent runs in."""
    if reason == WaitingReason.PAUSED:
        return badge_of("paused", words(reason))
    if reason in _WAITS_ITS_TURN:
        return badge_of("queued", words(reason))
    return badge_of("waiting", words(reason))


@register.filter
def outcome_badge(outcome: str) -> SafeString:
    return badge_of(_OUTCOMES.get(outcome, "pending"), words(outcome))


@register.filter
def unlocal(number: float) -> str:
    """For SVG, which knows one decimal point only."""
    return f"{number:g}"


@register.filter
def words(state: str) -> str:
    return state.replace("_", " ")


@register.filter
def quoted(sentence: str) -> SafeString:
    """A sentence whose `names` stand in the type of code."""
    parts = enumerate(sentence.split("`"))
    return format_html_join("", "{}", ((_code(p) if at % 2 else p,) for at, p in parts))


@register.filter
def error_text(error: Any) -> SafeString:
    """What an error says."""
    return quoted(str(error.get("message") or error.get("code") or "It failed."))


def _code(text: str) -> SafeString:
    return format_html("<code>{}</code>", text)


@register.filter
def usd(nano: int | None) -> str:
    """Dollars as short as they stay exact to two digits that count: $0, $0.0041, $12.30."""
    if not nano:
        return "$0"
    amount = usd_from_nano(nano)
    if abs(amount) >= 1:
        return f"${amount.quantize(_CENT):,}"
    # Two digits after the zeros that lead.
    places = 1 - amount.adjusted()
    return f"${amount.quantize(Decimal(1).scaleb(-places)):f}"


@register.filter
def count(number: int | None) -> str:
    """A number as people read it: 1,826,907."""
    return f"{number or 0:,}"


@register.filter
def percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 or not share else f"{share:.1%}"


@register.filter
def duration(seconds: float | None) -> str:
    if seconds is None:
        return "\N{EN DASH}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


@register.filter
def so_far(since: datetime | None) -> str:
    """How long it has lasted, in whole seconds: the clocks of two machines differ."""
    if since is None:
        return duration(None)
    seconds = max(0, round((now() - since).total_seconds()))
    return f"{seconds} s" if seconds < 60 else duration(seconds)


@register.filter
def moment(value: datetime | None) -> SafeString | str:
    """A point in time: machine-readable, and to the second for people."""
    if value is None:
        return "\N{EN DASH}"
    return format_html(
        '<time datetime="{}" class="m-time">{}</time>',
        value.isoformat(),
        localize(value),
    )


@register.filter
def about(until: datetime) -> SafeString | str:
    """When a wait ends; those that wake others look every few seconds only."""
    return moment(until) if until > now() else "any moment now"


@register.filter
def is_past(moment: datetime) -> bool:
    return moment <= now()


@register.filter
def clock(value: datetime) -> str:
    return f"{value:%H:%M:%S}.{value.microsecond // 1000:03}"


@register.filter
def details(event: RunEvent) -> str:
    """What an event of a run tells beside its name and its step."""
    data = event.data
    told = [
        f"attempt {data['attempt']}" if data.get("attempt") else "",
        f"on {data['worker']}" if data.get("worker") else "",
        _call(data) if data.get("model") else "",
        _reason(event.type, data),
        (data.get("error") or {}).get("message", ""),
    ]
    return ", ".join(filter(None, told))


def _call(data: Mapping[str, Any]) -> str:
    tokens = (f"{count(data.get(f'{kind}put_tokens'))} {kind}" for kind in ("in", "out"))
    return ", ".join([f"{data.get('provider', '')} {data['model']}", *tokens])


def _reason(kind: str, data: Mapping[str, Any]) -> str:
    reason = str(data.get("reason") or "")
    if kind != "agent.waiting":
        return reason.replace("`", "")
    until = f" until {clock(datetime.fromisoformat(data['until']))}" if data.get("until") else ""
    return f"for {data.get('gate') or WAITS_FOR.get(reason, words(reason))}{until}"


@register.filter
def as_text(value: Any) -> str:
    """Text as it is; any other JSON value indented."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "\n… (download the whole)"


@register.filter
def is_text(value: Any) -> bool:
    return isinstance(value, str)


@register.filter
def texts(value: Any) -> list[tuple[str, str]]:
    """The parts of an object that holds nothing but a few texts, to be read one by one."""
    if not isinstance(value, dict) or not 0 < len(value) <= MAX_PARTS:
        return []
    if not all(isinstance(part, str) for part in value.values()):
        return []
    return list(value.items())


@register.filter
def markdown(text: str) -> SafeString:
    return mark_safe(to_html(text))  # noqa: S308 - cleaned by nh3
