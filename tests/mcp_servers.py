"""MCP servers as processes of their own, as plain context managers."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.embedded.ports import LOOPBACK, free_port
from tests.eventually import eventually

ROOT = Path(__file__).resolve().parent.parent
STDIO = (sys.executable, "-m", "tests.mcp_program", "--stdio")


@dataclass(frozen=True, slots=True)
class McpProgram:
    """A server over HTTP, and the file from which it takes more tools to offer."""

    url: str
    more: Path

    def offers(self, *tools: dict[str, Any]) -> None:
        self.more.write_text(json.dumps(tools))


@contextmanager
def mcp_server(folder: Path, *options: str, token: str = "") -> Iterator[McpProgram]:
    port, more = free_port(), folder / "tools.json"
    more.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.mcp_program", "--http", str(port), "--tools", str(more)]
    with subprocess.Popen(
        [*command, *options, *(["--token", token] if token else [])], cwd=ROOT
    ) as process:
        try:
            eventually(lambda: _listens(port), within=30)
            yield McpProgram(f"http://{LOOPBACK}:{port}/mcp", more)
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
