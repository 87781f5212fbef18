"""For load balancers and orchestrators of containers: no key, no tenant, no template."""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from orchestrator.selectors.health import database_problem, degraded_parts


@require_safe
def alive(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """503 if requests cannot be served. Without Redis or workers runs are still accepted."""
    problem = database_problem()
    if problem:
        return JsonResponse({"status": "unavailable", "detail": problem}, status=503)
    degraded = degraded_parts()
    return JsonResponse({"status": "degraded" if degraded else "ok", "degraded": degraded})
