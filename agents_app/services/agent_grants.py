"""Allowing agents to a tenant's workflows, and refusing them."""

from agents_app.models import AgentGrant


def allow_agent(name: str, *, allowed: bool) -> AgentGrant:
    grant, _ = AgentGrant.objects.update_or_create(agent=name, defaults={"is_allowed": allowed})
    return grant
