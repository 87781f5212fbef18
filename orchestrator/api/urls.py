from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.routers import SimpleRouter

from orchestrator.api.approvals import ApprovalView
from orchestrator.api.batches import BatchView
from orchestrator.api.blueprints import BlueprintView
from orchestrator.api.budgets import AlertView, BudgetView
from orchestrator.api.call_settings import CallSettingsView
from orchestrator.api.capabilities import CapabilityView
from orchestrator.api.limits import RateLimitView
from orchestrator.api.prompt_templates import PromptTemplateView
from orchestrator.api.providers import CheckView, ProviderView
from orchestrator.api.runs import RunView
from orchestrator.api.status import StatusView
from orchestrator.api.waiting import WaitingView
from orchestrator.api.workflow_tools import WorkflowToolView
from orchestrator.api.workflows import WorkflowView
from tenants.middleware import opens_its_own_scope

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("blueprints", BlueprintView, basename="blueprints")
router.register("workflows", WorkflowView, basename="workflows")
router.register("workflow-tools", WorkflowToolView, basename="workflow-tools")
router.register("runs", RunView, basename="runs")
router.register("runs/batches", BatchView, basename="batches")
router.register("approvals", ApprovalView, basename="approvals")
router.register("providers", ProviderView, basename="providers")
router.register("budgets", BudgetView, basename="budgets")
router.register("costs/alerts", AlertView, basename="cost-alerts")
router.register("prompt-templates", PromptTemplateView, basename="prompt-templates")
router.register("capabilities", CapabilityView, basename="capabilities")
router.register("rate-limits", RateLimitView, basename="rate-limits")

urlpatterns = [
    path("runs/batch", BatchView.as_view({"post": "start"}), name="runs-batch"),
    path(
        "providers/<str:name>/check",
        opens_its_own_scope(CheckView.as_view({"post": "provider"})),
        name="providers-check",
    ),
    path(
        # Names of models have slashes in them.
        "providers/<str:name>/models/<path:model>",
        ProviderView.as_view({"get": "model"}),
        name="providers-model",
    ),
    path(
        "credentials/<uuid:id>/check",
        opens_its_own_scope(CheckView.as_view({"post": "credential"})),
        name="credentials-check",
    ),
    path(
        "call-settings",
        CallSettingsView.as_view({"get": "retrieve", "patch": "partial_update"}),
        name="call-settings",
    ),
    *router.urls,
    path("", include("tenants.api.urls")),
    path("", include("costs.api.urls")),
    path("", include("agents_app.api.urls")),
    path("status", StatusView.as_view({"get": "retrieve"}), name="status"),
    path("status/waiting", WaitingView.as_view({"get": "retrieve"}), name="status-waiting"),
    path("schema", SpectacularAPIView.as_view(), name="schema"),
    path("docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
]
