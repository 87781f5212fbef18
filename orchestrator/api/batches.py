"""Several workflows as one batch."""

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from costs.api.serializers import Usd
from orchestrator.api import serializers as forms
from orchestrator.api.errors import problems_in
from orchestrator.api.runs import version_of
from orchestrator.core.batch import BatchStatus
from orchestrator.core.problems import Problem, pointer
from orchestrator.models import RunBatch, Workflow, WorkflowVersion
from orchestrator.selectors import batches as selectors
from orchestrator.selectors.runs import runs_of, with_reasons
from orchestrator.selectors.workflows import workflow_for
from orchestrator.services.batches import MAX_RUNS, Wanted, cancel_batch, start_batch
from tenants.api.base import ApiView
from tenants.api.serializers import ProjectRef, Query, Strict, Text
from tenants.principals import Principal
from tenants.roles import Scope
from tenants.services.errors import AmbiguousError, NotFoundError

BATCH_STATUSES = [str(status) for status in BatchStatus]


@extend_schema_field(forms.RunBody(many=True))
class RunBodies(serializers.ListField):
    """Each is read on its own, so that what is wrong with one hides nothing of the others."""

    child = serializers.DictField()


class BatchBody(Strict):
    name = Text(required=False, allow_blank=True, max_length=200)
    runs = RunBodies(min_length=1, max_length=MAX_RUNS)


class BatchLinksOut(serializers.Serializer[Any]):
    self = serializers.URLField()
    runs = serializers.URLField()


class BatchOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    status = serializers.ChoiceField(
        BATCH_STATUSES,
        help_text="`pending`: no run has begun; `running`: some have, not all have ended; after "
        "that `completed` or `cancelled` if all runs are, else `partially_completed` if some have "
        "a result, else `failed`.",
    )
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="Runs by state.")
    size = serializers.IntegerField(help_text="How many runs were started.")
    project = ProjectRef(allow_null=True, help_text="Null where the runs are of several.")
    started_by = forms.StarterOut()
    cost_usd = Usd(source="cost")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    links = serializers.SerializerMethodField()

    def get_links(self, batch: RunBatch) -> BatchLinksOut:
        request = self.context["request"]
        runs = reverse("runs-list", request=request)
        return {  # type: ignore[return-value]
            "self": reverse("batches-detail", kwargs={"id": batch.id}, request=request),
            "runs": f"{runs}?batch={batch.id}",
        }


class StartedBatchOut(BatchOut):
    runs = forms.RunOut(
        many=True, source="runs_shown", help_text="In the order in which they were asked for."
    )


class BatchView(ApiView):
    """Runs that were started together."""

    read_scope = Scope.RUNS_READ
    write_scope = Scope.RUNS_WRITE

    @extend_schema(responses=BatchOut(many=True))
    def list(self, request: Request) -> Response:
        self.query(Query)
        rows = selectors.batches_of(self.principal)
        return self.page(rows, BatchOut, prepared=selectors.with_figures)

    @extend_schema(request=BatchBody, responses={202: StartedBatchOut})
    def start(self, request: Request) -> Response:
        """Start up to 1,000 runs: all of them, or none if anything is wrong with any."""
        asked = self.body(BatchBody)
        wanted, problems = _Reader(self.principal).read(asked["runs"])
        batch = start_batch(wanted, name=asked.get("name", ""), problems=problems)
        return self._accepted(batch.id, StartedBatchOut, with_runs=True)

    @extend_schema(responses=BatchOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        batch = self.found(selectors.batches_of(self.principal))
        selectors.with_figures([batch])
        return self.one(batch, BatchOut)

    @extend_schema(request=None, responses={202: BatchOut})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """Cancel every run that has not ended."""
        self.body(Strict)
        batch = self.found(selectors.batches_of(self.principal))
        cancel_batch(batch)
        return self._accepted(batch.id, BatchOut)

    def _accepted(
        self, batch_id: Any, form: type[BatchOut], *, with_runs: bool = False
    ) -> Response:
        batch = self.found(selectors.batches_of(self.principal), id=batch_id)
        selectors.with_figures([batch])
        if with_runs:
            runs = runs_of(self.principal).filter(batch_id=batch_id)
            # Ids grow in the order in which the runs were made.
            batch.runs_shown = with_reasons(runs.order_by("id"))
        data = self.shown(form, batch)
        return self.created(data, at="batches-detail", code=status.HTTP_202_ACCEPTED)


class _Reader:
    """Reads the runs of a batch, looking up each workflow once."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal
        self._form = forms.RunBody()
        self._known: dict[tuple[Any, ...], tuple[Workflow, WorkflowVersion | None]] = {}

    def read(self, bodies: list[Mapping[str, Any]]) -> tuple[list[Wanted], list[Problem]]:
        wanted, problems = [], list[Problem]()
        for place, body in enumerate(bodies):
            try:
                wanted.append(self._one(place, self._form.run_validation(body)))
            except serializers.ValidationError as error:
                problems += problems_in(error, "runs", place)
            except (NotFoundError, AmbiguousError) as error:
                problems.append(Problem(pointer("runs", place) + error.loc, error.code, str(error)))
        return wanted, problems

    def _one(self, place: int, asked: dict[str, Any]) -> Wanted:
        key = tuple(asked.pop(name, None) for name in ("workflow", "project", "version"))
        if key not in self._known:
            name, project, number = key
            workflow = workflow_for(self._principal, name, project=project)
            self._known[key] = (workflow, version_of(workflow, number))
        workflow, version = self._known[key]
        return Wanted(place=place, workflow=workflow, version=version, **{"input": {}, **asked})
