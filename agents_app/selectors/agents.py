from django.db.models import QuerySet

from agents_app.models import Agent


def agents(*, capability: str | None = None) -> QuerySet[Agent]:
    """The tenant's saved agents, or those of them that have a capability."""
    saved = Agent.objects.all()
    return saved.filter(capabilities__contains=[capability]) if capability else saved


def capabilities_of_agents() -> list[str]:
    """Whatever the tenant's saved agents are good for."""
    return sorted(
        {each for known in agents().values_list("capabilities", flat=True) for each in known}
    )
