from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL

from orchestrator.models import Run, RunEvent

# Ids are given before commit: a younger event may be visible while an older one is not yet.
# Reading only what is older than every running transaction never skips one.
_SETTLED = "xact < pg_snapshot_xmin(pg_current_snapshot())"


def events_after(run: Run, event_id: int) -> QuerySet[RunEvent]:
    """The run's history behind an event, oldest first; 0 begins at the beginning."""
    settled = RawSQL(_SETTLED, (), output_field=BooleanField())  # noqa: S611  a constant
    return RunEvent.objects.filter(settled, run=run, id__gt=event_id).order_by("id")
