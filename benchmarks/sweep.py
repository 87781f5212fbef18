"""What the sweeper, the dealer and the guard against loops cost when there is nothing to mend.

They look every other second, the dealer every half second, for as long as the platform runs: at
100,000 runs that have ended and 1,000 that are live, each of five steps and as many ledger lines,
those of the live ones of the last minute.
"""

import statistics
import sys
import time
from typing import Any

import psycopg

from benchmarks import specs
from benchmarks.harness import Installation, installation, tell

ENDED, LIVE, STEPS, TURNS = 100_000, 1_000, 5, 30

# Copies of one run: nobody has to execute half a million steps for this.
_COPY_RUNS = """
INSERT INTO run SELECT x.*
  FROM run r, generate_series(1, %(count)s) AS number,
       LATERAL jsonb_populate_record(r, jsonb_build_object(
           'id', uuidv7(), 'status', %(status)s::text, 'advance_wanted', false,
           'metadata', jsonb_build_object('copy', number),
           'deadline_at', %(deadline)s::text, 'created_at', clock_timestamp(),
           'finished_at', %(finished)s::text)) x
 WHERE r.id = %(run)s
"""
_COPY_STEPS = """
INSERT INTO agent_run SELECT x.*
  FROM agent_run a, run r,
       LATERAL jsonb_populate_record(a, jsonb_build_object(
           'id', uuidv7(), 'run_id', r.id, 'published_at', clock_timestamp(),
           'status', CASE a.position WHEN 0 THEN %(first)s::text ELSE %(rest)s::text END,
           'lease_until', CASE WHEN a.position = 0 AND %(first)s::text = 'running'
                               THEN clock_timestamp() + interval '1 hour' END)) x
 WHERE a.run_id = %(run)s AND r.status = %(status)s AND r.id <> %(run)s
"""
_CHARGE = """
INSERT INTO cost_entry (id, tenant_id, at, kind, amount_nano, call_id, project_id, workflow_id,
                        workflow_name, run_id, agent_run_id, attempt, step, agent, role, provider,
                        model, estimated, input_tokens, output_tokens, cached_tokens,
                        cache_write_tokens, reasoning_tokens, unit_prices)
SELECT uuidv7(%(shift)s::interval), r.tenant_id, clock_timestamp() + %(shift)s::interval, 'call', 7,
       uuidv7(), r.project_id, r.workflow_id, 'swept', r.id, uuidv7(), 1, 's', '', '', 'simulated',
       'sim', false, 1, 1, 0, 0, 0, '{}'
  FROM run r, generate_series(1, %(lines)s) WHERE r.status = %(status)s
"""
_LOOKS = {
    "find": "SELECT * FROM muster_sweep_find(500)",
    "ends": "SELECT * FROM muster_sweep_ends(500)",
    "runs": "SELECT * FROM muster_sweep_runs(500)",
    "turns": "SELECT * FROM muster_sweep_turns(500)",
    "loads": "SELECT * FROM muster_loads(10000)",
    # Of tenants below the floor, as almost always; and with each run looked at.
    "spend": "SELECT * FROM muster_spending('1 minute', 1000000000, '1 hour')",
    "spend_much": "SELECT * FROM muster_spending('1 minute', 0, '1 hour')",
    "waits": """
        SELECT s.tenant_id, s.reason, s.name, count(*), count(DISTINCT s.run_id), min(s.since)
          FROM muster_standing(NULL, NULL) s GROUP BY 1, 2, 3""",
}
_SWEEP = ("find", "ends", "runs", "turns")


def measure() -> dict[str, Any]:
    with installation() as site:
        site.start_workers("agents1", threads=4)
        site.start_control()
        steps = {f"s{number}": specs.noop() for number in range(STEPS)}
        run = site.trigger(site.publish(specs.workflow("swept", steps, strategy="levels")))
        site.await_run(run)
        # They would sweep too.
        for name in ("control", "agents1"):
            site.processes[name].suspend()
        try:
            _fill(site, run)
            looks = _looks(site)
        finally:
            for name in ("control", "agents1"):
                site.processes[name].resume()
    return {
        "sweep_ms": round(sum(looks[name] for name in _SWEEP), 2),
        "deal_ms": looks["loads"],
        "guard_ms": looks["spend"],
        "waits_ms": looks["waits"],
        "looks_ms": looks,
        "settings": {"ended": ENDED, "live": LIVE, "steps": STEPS, "turns": TURNS},
    }


def _fill(site: Installation, run: str) -> None:
    tell(f"writing {ENDED + LIVE} runs")
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    ended = {"status": "completed", "finished": later, "deadline": None, "count": ENDED}
    live = {"status": "running", "finished": None, "deadline": later, "count": LIVE}
    # As a copy of a database is filled: its rows were checked when they were written.
    site.database.execute("SET session_replication_role = replica")
    for of in (ended, live):
        first, rest = ("completed",) * 2 if of is ended else ("running", "pending")
        given = {**of, "run": run, "first": first, "rest": rest}
        site.database.execute(_COPY_RUNS, given)
        site.database.execute(_COPY_STEPS, given)
    # Ahead of time, so that they stay in the last minute however long this takes.
    for status, shift in (("completed", "-1 day"), ("running", "1 hour")):
        given = {"status": status, "shift": shift, "lines": STEPS}
        site.database.execute(_CHARGE, given)
    site.database.execute("ANALYZE run, agent_run, cost_entry")
    written = site.value("SELECT count(*) FROM agent_run")
    if written != (ENDED + LIVE + 1) * STEPS:
        sys.exit(f"{written} agent runs were written")


def _looks(site: Installation) -> dict[str, float]:
    """The median of each query in milliseconds; the first turns warm up."""
    took: dict[str, list[float]] = {name: [] for name in _LOOKS}
    with psycopg.connect(site.servers.system_url, autocommit=True) as system:
        for _ in range(TURNS):
            for name, query in _LOOKS.items():
                began = time.perf_counter()
                system.execute(query, prepare=True).fetchall()
                took[name].append(1000 * (time.perf_counter() - began))
    return {name: round(statistics.median(times[3:]), 2) for name, times in took.items()}
