"""What the tasks cost at most that agents hand to others."""

from __future__ import annotations

from decimal import Decimal

from agents_app.core.agent import AgentConfig
from agents_app.core.loop import LoopLimits
from costs.core.money import nano_from_usd
from orchestrator.core.prices import NOTHING, Amounts, Note, Team, Terms


def team_of(config: AgentConfig) -> Team:
    cap = config.delegate_cost_usd
    return Team(
        delegates=tuple(config.delegates),
        has_others=bool(config.workflows) or config.type == "planner",
        each_nano=nano_from_usd(Decimal(cap)) if cap else None,
    )


def handed_price(step: str, config: AgentConfig, terms: Terms) -> Amounts:
    """Each task as dear as it may be, and as many as a run takes, or as the agent has turns for.

    Those that hand on tasks in their turn share the count of their run.
    """
    team = team_of(config)
    if not team.hands_out:
        return NOTHING
    dearest = _dearest(team, terms, seen=set())
    if dearest is None:
        told = (
            "It hands out tasks, and nothing says what each of them may cost: "
            "`delegate_cost_usd` does, of this agent and of those that hand on what they are given"
        )
        return Amounts(worst=None, calls=None, notes=(Note(step, "hands_out", told),))
    return Amounts(worst=_count(team, config, terms) * dearest, calls=None)


def _count(team: Team, config: AgentConfig, terms: Terms) -> int:
    if any(terms.team_of(slug).hands_out for slug in team.delegates):
        return terms.max_added_steps
    at_a_time = config.max_tasks if config.type == "planner" else LoopLimits().calls_per_turn
    # In its last turn it answers.
    return min(terms.max_added_steps, at_a_time * (config.max_turns - 1))


def _dearest(team: Team, terms: Terms, *, seen: set[str]) -> int | None:
    """What a task may cost, of this team's or of one below it; None: nobody knows."""
    found = team.each_nano
    for slug in {*team.delegates} - seen:
        seen.add(slug)
        below = terms.team_of(slug)
        if below.hands_out and found is not None:
            deeper = _dearest(below, terms, seen=seen)
            found = None if deeper is None else max(found, deeper)
    return found
