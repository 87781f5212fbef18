"""How many calls a second one tenant can hold and close, with budgets on three levels.

64 callers in four processes pass through the whole gateway to a provider that answers at once,
each for an agent run of its own; all of them hold in the same three budgets. The same without
budgets, for comparison.
"""

import json
import subprocess
import sys
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks import specs
from benchmarks.harness import ROOT, Installation, installation, tell
from benchmarks.metering import cpu_seconds, percentile

PROCESSES, THREADS, SECONDS = 4, 16, 8.0
BEGIN = """
UPDATE agent_run
   SET status = 'running', attempt = 1, attempt_started_at = clock_timestamp(),
       lease_until = clock_timestamp() + interval '1 h' WHERE run_id = %s
"""
_PRICE = "UPDATE platform_price SET output_usd = 1 WHERE provider = 'simulated'"
FACTS = """
SELECT r.tenant_id::text, r.project_id::text, r.workflow_id::text, r.id::text, r.version_id::text,
       array_agg(a.id::text)
  FROM run r JOIN agent_run a ON a.run_id = r.id WHERE r.id = %s GROUP BY r.id
"""
NAMES = ("tenant_id", "project_id", "workflow_id", "run_id", "version_id")
_BUDGETS = """
INSERT INTO budget (id, tenant_id, name, scope, scope_id, agent, "interval", time_zone, limit_nano,
                    is_hard, thresholds, is_enabled, is_operators)
SELECT uuidv7(), r.tenant_id, s.scope, s.scope, s.id, '', 'month', 'UTC', 10 ^ 15, true, '{}', true,
       false
  FROM run r, LATERAL (VALUES ('tenant', NULL), ('project', r.project_id),
                              ('workflow', r.workflow_id)) AS s (scope, id)
 WHERE r.id = %s
"""


def measure() -> dict[str, Any]:
    with installation() as site:
        steps = {
            f"s{number}": specs.simulated("Say it.", latency=0.0)
            for number in range(PROCESSES * THREADS)
        }
        run = site.trigger(site.publish(specs.workflow("hold", steps, strategy="adaptive")))
        site.database.execute(BEGIN, [run])
        site.database.execute(_PRICE)
        without = _turn(site, run, "without budgets")
        site.database.execute(_BUDGETS, [run])
        held = _turn(site, run, "with three budgets")
        left = site.value("SELECT sum(held_nano) FROM budget_period")
        if left or not site.value("SELECT min(spent_nano) > 0 FROM budget_period"):
            sys.exit(f"budgets were not kept: {left} is held")
    return {
        "per_s": held["per_s"],
        "p50_ms": held["p50_ms"],
        "p99_ms": held["p99_ms"],
        "gateway_cpu_ms": held["cpu_ms"],
        "postgres_cpu_ms": held["postgres_cpu_ms"],
        "without_budgets": without,
        "settings": {"processes": PROCESSES, "threads": THREADS, "seconds": SECONDS},
    }


def _turn(site: Installation, run: str, what: str) -> dict[str, float]:
    tell(what)
    *facts, ids = site.database.execute(FACTS, [run]).fetchone() or ()
    given = json.dumps(dict(zip(NAMES, facts, strict=True)))
    command = [sys.executable, "-m", "benchmarks.callers", str(SECONDS), given]
    server = psutil.Process(site.servers.postgres_pid)
    postgres = cpu_seconds(server)
    callers = [
        subprocess.Popen(
            [*command, *ids[number::PROCESSES]],
            cwd=ROOT,
            env=site.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    told = [json.loads(caller.communicate()[0]) for caller in callers]
    took = [seconds for one in told for seconds in one["took"]]
    calls = len(took)
    return {
        "per_s": round(calls / max(one["seconds"] for one in told), 1),
        "p50_ms": round(1000 * percentile(took, 0.5), 2),
        "p99_ms": round(1000 * percentile(took, 0.99), 2),
        "cpu_ms": round(1000 * sum(one["cpu"] for one in told) / calls, 3),
        "postgres_cpu_ms": round(1000 * (cpu_seconds(server) - postgres) / calls, 3),
    }
