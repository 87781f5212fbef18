from rest_framework.routers import SimpleRouter

from agents_app.api import views
from agents_app.api.memory import MemoryView

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("agents/types", views.AgentTypeView, basename="agent-types")
router.register("agents", views.AgentView, basename="agents")
router.register("tools", views.ToolView, basename="tools")
router.register("memory", MemoryView, basename="memory")
urlpatterns = router.urls
