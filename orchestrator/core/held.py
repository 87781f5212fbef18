"""What people are asked about a call that they have to agree to."""

from __future__ import annotations

from typing import Any, Final

from agents_app.core.approving import HeldCall
from agents_app.core.values import as_text, cut, json_size
from orchestrator.core.jsonvalue import Json
from orchestrator.core.redaction import without_secrets

_MOST_SHOWN_BYTES: Final = 100_000
_MOST_TEXT_BYTES: Final = 90_000
NOTE_FORM: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {"note": {"type": "string", "maxLength": 2_000}},
}


def question_about(held: HeldCall) -> dict[str, Any]:
    """As muster_hold_calls reads it; arguments are shown without what looks like a secret."""
    call, approval = held.call, held.approval
    return {
        "turn": held.turn,
        "call": call.id,
        "question": f"Call the tool {call.name}?",
        "show": {"tool": call.name, "arguments": _shown(without_secrets(call.arguments))},
        "roles": list(approval.roles),
        "exclude_requester": approval.exclude_requester,
        "form": NOTE_FORM,
        "expires": approval.expires_seconds,
        "on_expire": approval.on_expire,
        "on_reject": "fail" if held.fails_step else "continue",
    }


def _shown(arguments: Json) -> Json:
    if json_size(arguments) <= _MOST_SHOWN_BYTES:
        return arguments
    told = f"(cut: the beginning of {json_size(arguments):,} bytes; the run's page has all of it)"
    return f"{cut(as_text(arguments), most_bytes=_MOST_TEXT_BYTES)}\n{told}"
