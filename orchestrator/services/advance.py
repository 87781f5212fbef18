"""Moves a run on: the one place that decides what may start and when a run has ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from orchestrator.core.plan import Decision, Plan, Progress, ready
from orchestrator.dispatch.canvas import AgentHint, publish_agents, publish_level
from orchestrator.execution import engine_db
from orchestrator.execution.engine_db import Row, rows
from orchestrator.execution.versions import plan_of

# One pipeline's worth of messages; wider levels follow as places come free.
MAX_WINDOW = 200

_BEGIN = "SELECT * FROM muster_begin_advance(%s, %s)"
_SKIP = "SELECT muster_skip_steps(%s, %s, %s, %s)"
_QUEUE = "SELECT * FROM muster_queue_level(%s, %s, %s, %s)"
_FINISH = "SELECT muster_finish_run(%s, %s, %s, %s, %s)"
_OUTPUTS = "SELECT step, output FROM agent_run WHERE run_id = %s AND step = ANY(%s)"
