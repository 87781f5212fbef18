from rest_framework.routers import SimpleRouter

from costs.api.views import CostEntryView

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("costs/entries", CostEntryView, basename="cost-entries")
urlpatterns = router.urls
