from django.urls import path
from rest_framework.routers import SimpleRouter

from agents_app.api import views
from agents_app.api.mcp_servers import McpRefreshView, McpServerView
from agents_app.api.memory import MemoryView
from tenants.middleware import opens_its_own_scope

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("agents/types", views.AgentTypeView, basename="agent-types")
router.register("agents", views.AgentView, basename="agents")
router.register("tools", views.ToolView, basename="tools")
router.register("memory", MemoryView, basename="memory")
router.register("mcp-servers", McpServerView, basename="mcp-servers")
urlpatterns = [
    path(
        "mcp-servers/<uuid:id>/refresh",
        opens_its_own_scope(McpRefreshView.as_view({"post": "refresh"})),
        name="mcp-servers-refresh",
    ),
    *router.urls,
]
