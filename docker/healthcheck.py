"""Is this container's one process well? Exit 0 if so."""

import os
import sys
import tempfile
import urllib.request
from pathlib import Path

PORTS = {"web": os.environ.get("PORT", "8000"), "flower": os.environ.get("FLOWER_PORT", "5555")}


def answers(url: str) -> bool:
    # Under a name that the application answers to; the address is this container's own.
    name = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip().lstrip(".*")
    request = urllib.request.Request(url, headers={"Host": name or "localhost"})
    with urllib.request.urlopen(request, timeout=4) as response:
        return bool(response.status == 200)


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def is_well(role: str, process: Path) -> bool:
    if role == "web":
        return answers(f"http://127.0.0.1:{PORTS['web']}/health")
    if role == "flower":
        return answers(f"http://127.0.0.1:{PORTS['flower']}/healthcheck")
    # A worker that lost its broker reconnects by itself; killing it would only cost its agents.
    return "celery" in command_line(process)


# What the entrypoint wrote before the process took its place.
role, pid = Path(tempfile.gettempdir(), "muster-role").read_text().split()
sys.exit(0 if is_well(role, Path("/proc", pid)) else 1)
