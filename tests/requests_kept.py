"""What models were asked, put together again from what was kept of each turn."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from orchestrator.models import LlmCall


def whole_requests(run_id: UUID) -> list[dict[str, Any]]:
    """Of each call of a run, in their order; the scope of its tenant is open."""
    by_turn: dict[tuple[UUID, int], dict[str, Any]] = {}
    found = []
    for call in LlmCall.objects.filter(run_id=run_id).order_by("id"):
        request = _whole(call.request, by_turn, call)
        by_turn[call.agent_run_id, call.turn] = request
        found.append({**request, "turn": call.turn, "status": call.status})
    return found


def _whole(
    kept: Mapping[str, Any], known: Mapping[tuple[UUID, int], Mapping[str, Any]], call: LlmCall
) -> dict[str, Any]:
    if "follows" not in kept:
        return dict(kept)
    before = known[call.agent_run_id, kept["follows"]["turn"]]
    messages = [*before["messages"][: kept["follows"]["messages"]], *kept["messages"]]
    added = {name: value for name, value in kept.items() if name != "follows"}
    return {**before, **added, "messages": messages}
