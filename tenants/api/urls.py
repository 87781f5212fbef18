from rest_framework.routers import SimpleRouter

from tenants.api import views
from tenants.api.credentials import CredentialView

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("tenants", views.TenantView, basename="tenants")
router.register("projects", views.ProjectView, basename="projects")
router.register("api-keys", views.ApiKeyView, basename="api-keys")
router.register("members", views.MemberView, basename="members")
router.register("audit", views.AuditView, basename="audit")
router.register("credentials", CredentialView, basename="credentials")
urlpatterns = router.urls
