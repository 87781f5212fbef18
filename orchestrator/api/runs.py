from collections.abc import Callable
from functools import partial
from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from costs.api.serializers import CostEntryOut
from costs.selectors.ledger import ledger
from orchestrator.api import serializers as forms
from orchestrator.api.events import EventStreamRenderer, stream_answer
from orchestrator.api.exchange import ExchangeActions
from orchestrator.api.metrics import MetricsOut
from orchestrator.api.renderers import AnyJsonRenderer, MarkdownRenderer, MermaidRenderer
from orchestrator.api.replay import ReplayAction
from orchestrator.models import Run, Workflow, WorkflowVersion
from orchestrator.selectors import runs as selectors
from orchestrator.selectors.events import events_after
from orchestrator.selectors.metrics import run_metrics
from orchestrator.selectors.plans import RunPlan, plans_of
from orchestrator.selectors.waits import wait_of_run
from orchestrator.selectors.workflows import workflow_for
from orchestrator.services.control import cancel_run, pause_run, resume_run, retry_run
from orchestrator.services.objectives import save_plan, start_objective
from orchestrator.services.runs import start_run
from tenants.api.base import ApiView
from tenants.api.pagination import ByPosition, limit_of
from tenants.api.serializers import Query, Strict
from tenants.roles import Scope
from tenants.selectors.projects import project_for
from tenants.services.errors import NotFoundError

_LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID",
    int,
    OpenApiParameter.HEADER,
    description="Of a stream: the last id that you have; comes before `after`.",
)
_METADATA = OpenApiParameter("metadata.KEY", str, description="A value of the run's metadata.")


class RunView(ReplayAction, ExchangeActions, ApiView):
    """Executions of published workflows."""

    read_scope = Scope.RUNS_READ
    write_scope = Scope.RUNS_WRITE

    @extend_schema(parameters=[forms.RunQuery, _METADATA], responses=forms.RunOut(many=True))
    def list(self, request: Request) -> Response:
        rows = selectors.runs_like(self.principal, **self.query(forms.RunQuery))
        return self.page(rows, forms.RunOut, prepared=selectors.with_reasons)

    @extend_schema(request=forms.RunStart, responses={202: forms.RunOut})
    def create(self, request: Request) -> Response:
        """Start a run of a published version, or of an objective in plain words.

        Workers begin as soon as this has answered.
        """
        asked = self.body(forms.RunStart)
        if "objective" in asked:
            project = project_for(self.principal, asked.pop("project", None))
            return self._accepted(start_objective(project=project, **asked))
        workflow = workflow_for(
            self.principal, asked.pop("workflow"), project=asked.pop("project", None)
        )
        version = version_of(workflow, asked.pop("version", None))
        run = start_run(workflow=workflow, version=version, **{"input": {}, **asked})
        return self._accepted(run)

    @extend_schema(responses=forms.RunDetail)
    def retrieve(self, request: Request, **_: Any) -> Response:
        run = self.found(selectors.whole_runs_of(self.principal))
        selectors.with_reasons([run])
        run.steps = selectors.step_summaries(run.id)
        run.wait = wait_of_run(run)
        run.tokens = selectors.tokens_of(run.id)
        run.replay = selectors.replay_of(run)
        return Response(self.shown(forms.RunDetail, run))

    @extend_schema(request=None, responses={202: forms.RunOut})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """End it: nothing more is begun, calls under way are cut short and charged."""
        return self._changed(cancel_run)

    @extend_schema(request=None, responses={202: forms.RunOut})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, **_: Any) -> Response:
        """Hand out nothing more until it is resumed; what a worker has begun goes on."""
        return self._changed(pause_run)

    @extend_schema(request=None, responses={202: forms.RunOut})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, **_: Any) -> Response:
        """Let a paused run go on. One that asks people whether it may, only those can resume."""
        return self._changed(partial(resume_run, by=self.principal))

    @extend_schema(request=None, responses={202: forms.RunOut})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        """Take up an ended run again: what did not complete is tried anew, what did is kept."""
        return self._changed(retry_run)

    @extend_schema(parameters=[forms.AgentRunQuery], responses=forms.AgentRunOut(many=True))
    @action(detail=True, url_path="agent-runs", pagination_class=ByPosition)
    def agent_runs(self, request: Request, **_: Any) -> Response:
        """The run's steps at work, in the author's order: attempts, output, tokens, cost."""
        asked = self.query(forms.AgentRunQuery)
        rows = selectors.agent_runs_of(self._run(), **asked)
        return self.page(rows, forms.AgentRunOut, prepared=selectors.with_waits)

    @extend_schema(
        parameters=[forms.EventQuery, _LAST_EVENT_ID],
        responses={
            (200, "application/json"): forms.EventList,
            (200, "text/event-stream"): str,
            204: OpenApiResponse(description="A stream of a run that has ended, heard to its end."),
        },
    )
    @action(
        detail=True,
        pagination_class=None,
        renderer_classes=[JSONRenderer, EventStreamRenderer],
    )
    def events(self, request: Request, **_: Any) -> HttpResponseBase:
        """The run's history, oldest first. Ask again with `after` = the last id that you have.

        With `Accept: text/event-stream` it goes on live until the run has ended.
        """
        run = self._run()
        if request.accepted_renderer.format == EventStreamRenderer.format:
            after, is_get = self._last_heard(request), request.method == "GET"
            return stream_answer(run, after, goes_on=is_get)
        after, limit = self.query(forms.EventQuery)["after"], limit_of(request)
        rows = list(events_after(run, after)[: limit + 1])
        shown = rows[:limit]
        more = forms.after_link(request, shown[-1].id, limit) if len(rows) > limit else None
        results = self.shown(forms.EventOut, shown, many=True)
        return Response({"next": more, "previous": None, "results": results})

    @extend_schema(
        responses={(200, "application/json"): OpenApiTypes.ANY, (200, "text/markdown"): str},
    )
    @action(detail=True, renderer_classes=[AnyJsonRenderer, MarkdownRenderer])
    def output(self, request: Request, **_: Any) -> Response:
        """The result, once the run has ended; 409 before."""
        return Response(selectors.output_of(self._run("output")))

    @extend_schema(responses=MetricsOut)
    @action(detail=True)
    def metrics(self, request: Request, **_: Any) -> Response:
        """What each agent run took: times, tokens, cost, speed and its worker's load."""
        times = ("started_at", "finished_at")
        why = ("status_reason", "stop_wanted", "stop_reason")
        return Response(run_metrics(self._run("version", *times, *why)))

    @extend_schema(responses=CostEntryOut(many=True))
    @action(detail=True, read_scope=Scope.COSTS_READ)
    def costs(self, request: Request, **_: Any) -> Response:
        """The run's lines in the ledger."""
        self.query(Query)
        return self.page(ledger(run_id=self._run().id), CostEntryOut)

    @extend_schema(
        responses={(200, "text/plain"): str, (200, "application/json"): forms.MermaidOut}
    )
    @action(detail=True, renderer_classes=[MermaidRenderer, JSONRenderer])
    def mermaid(self, request: Request, **_: Any) -> Response:
        """The run's graph as Mermaid text, coloured by state."""
        return Response({"mermaid": selectors.graph_of(self._run("version__spec"))})

    @extend_schema(responses=forms.RunPlanOut)
    @action(detail=True)
    def plan(self, request: Request, **_: Any) -> Response:
        """What planners have planned in the run, what that may cost, and how far it is."""
        return Response(self.shown(forms.RunPlanOut, RunPlan(rounds=plans_of(self._run()))))

    @extend_schema(request=forms.SavedPlanBody, responses={201: forms.WorkflowOut})
    @action(
        detail=True,
        methods=["post"],
        url_path="plan/save",
        write_scope=Scope.WORKFLOWS_WRITE,
    )
    def save_plan(self, request: Request, **_: Any) -> Response:
        """Keep what a planner has planned and what has completed as a draft of a workflow."""
        run = self._run("project", "input")
        draft = save_plan(run, **self.body(forms.SavedPlanBody))
        return self.created(self.shown(forms.WorkflowOut, draft), at="workflows-detail")

    def _changed(self, change: Callable[[Run], None]) -> Response:
        self.body(Strict)
        run = self._run()
        change(run)
        return self._accepted(self.found(selectors.runs_of(self.principal), id=run.id))

    def _accepted(self, run: Run) -> Response:
        selectors.with_reasons([run])
        data = self.shown(forms.RunOut, run)
        return self.created(data, at="runs-detail", code=status.HTTP_202_ACCEPTED)

    def _last_heard(self, request: Request) -> int:
        """A reconnecting reader says it in a header, whatever its first address said."""
        after = self.query(forms.EventQuery)["after"]
        if header := request.headers.get("Last-Event-ID"):
            form = forms.EventQuery(data={"after": header})
            form.is_valid(raise_exception=True)
            after = form.validated_data["after"]
        return int(after)

    def _run(self, *heavy: str) -> Run:
        found: Run = self.found(selectors.run_of(self.principal, *heavy))
        return found


def version_of(workflow: Workflow, number: int | None) -> WorkflowVersion | None:
    if number is None:
        return None
    version = workflow.versions.filter(number=number).first()
    if version is None:
        raise NotFoundError("version", f"{workflow.name}@{number}", "/version")
    return version
