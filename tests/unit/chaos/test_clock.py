import json
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.chaos import crew

ASK = """
import datetime, json, time
now = datetime.datetime.now(datetime.UTC)
assert isinstance(now, datetime.datetime)
assert datetime.datetime(2020, 1, 2).isoformat() == "2020-01-02T00:00:00"
print(json.dumps([time.time(), time.time_ns() / 1e9, now.timestamp()]))
"""


def test_hosts_clock_is_wrong_whoever_asks() -> None:
    environment = crew._clock(-1200.0)
    assert Path(environment["PYTHONPATH"]).is_dir()

    told = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True
    )

    assert all(1190 < time.time() - at < 1210 for at in json.loads(told.stdout))
