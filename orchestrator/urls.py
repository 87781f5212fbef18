from django.contrib import admin
from django.urls import include, path

from orchestrator.api import health
from orchestrator.api.workflow_tools import McpDoor

urlpatterns = [
    path("health", health.alive),
    path("health/ready", health.ready),
    path("api/v1/", include("orchestrator.api.urls")),
    path("mcp", McpDoor.as_view({"get": "enter"})),
    path("admin/", admin.site.urls),
]

handler400 = "orchestrator.api.errors.bad_request"
handler403 = "orchestrator.api.errors.forbidden"
handler404 = "orchestrator.api.errors.not_found"
handler500 = "orchestrator.api.errors.server_error"
