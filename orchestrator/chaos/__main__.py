"""`python -m orchestrator.chaos [--seed N] [--short] [--money] [--keep]`.

The verdict is a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import django

from orchestrator.chaos.guard import guarded
from orchestrator.chaos.schedule import LONG, SHORT
from orchestrator.chaos.servers import ForeignServerError, running_servers
from orchestrator.embedded.errors import EmbeddedError


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    home = Path(tempfile.mkdtemp(prefix="muster-chaos-")).resolve()
    (home / "logs").mkdir()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    _say(f"seed {seed}, logs in {home}")
    is_well = False
    with guarded(home):
        try:
            verdict = _storm(home, seed=seed, over=arguments.over, is_short=arguments.short)
            is_well = verdict["ok"]
        finally:
            if arguments.keep or not is_well:
                _keep_logs(home)
    print(json.dumps(verdict))
    return 0 if is_well else 1


def _keep_logs(home: Path) -> None:
    kept = home.with_name(f"{home.name}-logs")
    shutil.copytree(home / "logs", kept)
    for name in ("provider.jsonl", "evidence.json"):
        if (home / name).exists():
            shutil.copy(home / name, kept)
    _say(f"the logs are kept in {kept}")


def _storm(home: Path, *, seed: int, over: str, is_short: bool) -> dict[str, Any]:
    with running_servers(home) as servers:
        # From here on this process knows no servers but these.
        os.environ.clear()
        os.environ.update(servers.environment | {"LOG_LEVEL": "ERROR"})
        django.setup()
        # That a database is away is no news here, and psycopg has a level of its own.
        logging.getLogger("psycopg").setLevel(logging.ERROR)
        # Models and services want their settings first.
        from orchestrator.chaos import money, money_scene, storm

        if over == "money":
            size = money_scene.SHORT if is_short else money_scene.LONG
            return money.MoneyStorm(seed, size, home, servers, _say).rage()
        return storm.Storm(seed, SHORT if is_short else LONG, home, servers, _say).rage()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="repeat the storm of this seed")
    parser.add_argument("--short", action="store_true", help="a minute instead of ten")
    parser.add_argument(
        "--money",
        dest="over",
        action="store_const",
        const="money",
        default="everything",
        help="over one budget and one set of limits",
    )
    parser.add_argument("--keep", action="store_true", help="keep the logs of all processes")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (EmbeddedError, ForeignServerError) as error:
        sys.exit(str(error))
