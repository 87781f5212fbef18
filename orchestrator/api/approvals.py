from typing import Any, cast

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from costs.api.serializers import Usd
from orchestrator.api.serializers import RUN_STATUSES, StarterOut
from orchestrator.models import Approval, ApprovalStatus
from orchestrator.selectors import approvals as selectors
from orchestrator.services.approvals import decide
from tenants.api.base import ApiView
from tenants.api.serializers import Query, Strict, reference
from tenants.roles import Scope


class ApprovalQuery(Query):
    status = serializers.MultipleChoiceField(choices=ApprovalStatus.values, required=False)
    run = serializers.UUIDField(required=False)
    workflow = reference(required=False)


class DecideBody(Strict):
    """`form` as `form_schema` says; a rejection may leave it out."""

    decision = serializers.ChoiceField(["approve", "reject"])
    form = serializers.JSONField(required=False, allow_null=True)


class ApprovalRunOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(RUN_STATUSES)
    workflow = serializers.CharField(source="workflow.name")
    version = serializers.IntegerField(source="version.number")


class ApproversOut(serializers.Serializer[Any]):
    roles = serializers.ListField(child=serializers.CharField())
    exclude_requester = serializers.BooleanField()


class ApprovalLinksOut(serializers.Serializer[Any]):
    self = serializers.URLField()
    decide = serializers.URLField()
    run = serializers.URLField()
    page = serializers.URLField()


class ApprovalOut(serializers.Serializer[Any]):
    """`cost_usd` is what the run has cost so far."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(ApprovalStatus.values)
    run = ApprovalRunOut()
    step = serializers.CharField()
    tool = serializers.CharField(
        help_text="Which tool may be called, where the question is that; else empty."
    )
    question = serializers.CharField()
    approvers = ApproversOut(source="*")
    cost_usd = Usd(source="cost")
    on_reject = serializers.CharField()
    on_expire = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)
    decided_by = StarterOut(allow_null=True)
    decided_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    links = serializers.SerializerMethodField()

    def get_links(self, approval: Approval) -> ApprovalLinksOut:
        request, ids = self.context["request"], {"id": approval.id}
        page = reverse("admin:orchestrator_approval_change", args=[approval.id], request=request)
        return {  # type: ignore[return-value]
            "self": reverse("approvals-detail", kwargs=ids, request=request),
            "decide": reverse("approvals-decide", kwargs=ids, request=request),
            "run": reverse("runs-detail", kwargs={"id": approval.run_id}, request=request),
            "page": page,
        }


class ApprovalDetail(ApprovalOut):
    show = serializers.JSONField(allow_null=True)
    form_schema = serializers.JSONField(allow_null=True)
    form = serializers.JSONField(allow_null=True)


class ApprovalView(ApiView):
    """What steps of runs ask of people."""

    read_scope = Scope.RUNS_READ
    write_scope = Scope.APPROVALS_WRITE

    @extend_schema(parameters=[ApprovalQuery], responses=ApprovalOut(many=True))
    def list(self, request: Request) -> Response:
        rows = selectors.approvals_like(self.principal, **self.query(ApprovalQuery))
        return self.page(rows, ApprovalOut)

    @extend_schema(responses=ApprovalDetail)
    def retrieve(self, request: Request, **_: Any) -> Response:
        """One with what it shows, the schema of its form, and the form as it was filled in."""
        return self.one(self._approval(), ApprovalDetail)

    @extend_schema(request=DecideBody, responses=ApprovalDetail)
    @action(detail=True, methods=["post"])
    def decide(self, request: Request, **_: Any) -> Response:
        """Approve or reject it. 409 if it is closed; of two at once, one wins."""
        approval = self._approval()
        decide(approval, principal=self.principal, **self.body(DecideBody))
        return self.one(self._approval(), ApprovalDetail)

    def _approval(self) -> Approval:
        return cast(Approval, self.found(selectors.approvals_of(self.principal)))
