"""A run's events as a stream: what its lines look like, and how an answer becomes one.

Django answers the request like any other, with the events that are stored, and names in a header
the place from which the stream goes on. The program in front (`orchestrator.asgi`) takes the
header off and follows the run from there, holding neither a thread nor a connection for it.
"""

import json
from dataclasses import dataclass, replace
from uuid import UUID

from django.http import HttpResponse
from rest_framework.renderers import BaseRenderer

from orchestrator.api.serializers import event_data
from orchestrator.models import Run, RunEvent
from orchestrator.selectors.events import News, Place, horizon, news
from tenants.scope import current_tenant_id

CONTENT_TYPE = "text/event-stream"
# Only ever from the site to the program in front of it, which does not hand it on.
FOLLOW = "X-Muster-Follow"
# After how many milliseconds a browser that lost the stream asks again.
_RETRY = b"retry: 2000\n\n"
_PORTION_BYTES = 128 * 1024
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class EventStreamRenderer(BaseRenderer):
    """Says that the stream can be asked for; what is streamed is written here, below."""

    media_type = CONTENT_TYPE
    format = "event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Lines for whoever has come to a place, and the place behind them; None at the end."""

    body: bytes
    next: Place | None


def stream_answer(run: Run, after: int, *, goes_on: bool) -> HttpResponse:
    """The beginning of the stream, or 204 where nothing will come any more."""
    place = Place(tenant_id=current_tenant_id(), run_id=run.id, after=after)
    ((_, found),) = news([place], until=horizon().id)
    if found.is_last and not found.events:
        return HttpResponse(status=204)
    first = portion(place, found)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if goes_on and first.next:
        headers[FOLLOW] = place_text(first.next)
    return HttpResponse(_RETRY + first.body, content_type=CONTENT_TYPE, headers=headers)


def portion(place: Place, found: News) -> Portion:
    """As much of the news as may lie in memory for a listener who reads slowly."""
    body = bytearray()
    for event in found.events:
        if len(body) > _PORTION_BYTES:
            return Portion(body=bytes(body), next=place)
        body += _lines(event)
        place = replace(place, after=event.id)
    return Portion(body=bytes(body), next=None if found.is_last else place)


def place_text(place: Place) -> str:
    return f"{place.tenant_id} {place.run_id} {place.after}"


def place_from(text: str) -> Place:
    tenant_id, run_id, after = text.split()
    return Place(tenant_id=UUID(tenant_id), run_id=UUID(run_id), after=int(after))


def _lines(event: RunEvent) -> bytes:
    envelope = {
        "type": event.type,
        "timestamp": event.at.strftime(_TIME),
        "data": event_data(event),
    }
    return f"id: {event.id}\nevent: {event.type}\ndata: {json.dumps(envelope)}\n\n".encode()
