import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from orchestrator.execution.crashpoints import crash_chances, crash_here

ROOT = Path(__file__).resolve().parents[3]


def test_nothing_happens_where_nobody_asked_for_it() -> None:
    crash_here("after_claim")


def test_chances_are_read_by_point() -> None:
    assert crash_chances("after_claim=0.1,in_sweep=1,seed=7") == {
        "after_claim": 0.1,
        "in_sweep": 1.0,
        "seed": 7.0,
    }


@pytest.mark.parametrize("text", ["nowhere=1", "after_claim", "after_claim=often"])
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="MUSTER_CRASH_POINTS"):
        crash_chances(text)


def test_production_refuses_to_start_with_crash_points() -> None:
    names = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "ALLOWED_HOSTS")
    given = dict.fromkeys(names, "postgres://x:y@localhost/z")
    given["CREDENTIALS_KEYS"] = Fernet.generate_key().decode()
    started = subprocess.run(
        [sys.executable, "-c", "import orchestrator.settings.production"],
        cwd=ROOT,
        env={**os.environ, **given, "MUSTER_CRASH_POINTS": "in_sweep=1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert started.returncode
    assert "MUSTER_CRASH_POINTS is for the chaos suite; unset it." in started.stderr
