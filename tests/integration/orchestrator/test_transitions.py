"""The database's table of transitions is the one in core/state.py."""

import itertools
from enum import StrEnum

import pytest
from django.db import IntegrityError, connections

from orchestrator.core.state import (
    AGENT_RUN_TRANSITIONS,
    RUN_TRANSITIONS,
    AgentRunStatus,
    RunStatus,
)


@pytest.fixture
def tables(live_db: None):
    """Bare stand-ins with the real trigger function, since real rows need a whole run."""
    with connections["owner"].cursor() as cursor:
        for table in ("run", "agent_run"):
            cursor.execute(f"CREATE TEMP TABLE {table} (id int, status text)")
            cursor.execute(
                f"CREATE TRIGGER t BEFORE UPDATE ON pg_temp.{table} FOR EACH ROW"
                " EXECUTE FUNCTION muster_check_transition()"
            )
        yield cursor
        cursor.execute("DROP TABLE pg_temp.run, pg_temp.agent_run")


def is_allowed(cursor, table: str, source: StrEnum, target: StrEnum) -> bool:
    cursor.execute(f"DELETE FROM pg_temp.{table}")
    cursor.execute(f"INSERT INTO pg_temp.{table} VALUES (1, %s)", [source])
    try:
        cursor.execute(f"UPDATE pg_temp.{table} SET status = %s", [target])
    except IntegrityError:
        return False
    return True


@pytest.mark.parametrize(
    ("table", "states", "transitions"),
    [("run", RunStatus, RUN_TRANSITIONS), ("agent_run", AgentRunStatus, AGENT_RUN_TRANSITIONS)],
)
def test_database_and_core_agree(tables, table: str, states, transitions) -> None:
    for source, target in itertools.permutations(states, 2):
        allowed = is_allowed(tables, table, source, target)
        assert allowed == (target in transitions[source]), (source, target)
