from django.urls import path
from rest_framework.routers import SimpleRouter

from costs.api.summary import SummaryView
from costs.api.views import CostEntryView

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("costs/entries", CostEntryView, basename="cost-entries")
urlpatterns = [
    *router.urls,
    path("costs/summary", SummaryView.as_view({"get": "summary"}), name="costs-summary"),
    path("costs/forecast", SummaryView.as_view({"get": "forecast"}), name="costs-forecast"),
]
