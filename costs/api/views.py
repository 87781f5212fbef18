from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from costs.api.serializers import CostEntryOut, CostQuery
from costs.selectors.ledger import ledger
from tenants.api.base import ApiView
from tenants.roles import Scope


class CostEntryView(ApiView):
    """The ledger: one line for every attempt to call a model. Lines are never changed."""

    read_scope = Scope.COSTS_READ

    @extend_schema(parameters=[CostQuery], responses=CostEntryOut(many=True))
    def list(self, request: Request) -> Response:
        entries = ledger(project_id=self.principal.project_id, **self.query(CostQuery))
        return self.page(entries, CostEntryOut)

    @extend_schema(responses=CostEntryOut)
    def retrieve(self, request: Request, **_: object) -> Response:
        return self.one(self.found(ledger(project_id=self.principal.project_id)), CostEntryOut)
