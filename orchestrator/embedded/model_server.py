"""`python -m orchestrator.embedded.model_server --port N`: SmolLM2 behind an OpenAI-style API."""

from __future__ import annotations

import argparse
import os
import signal

import xllamacpp

from orchestrator.embedded.model import MODEL_NAME, model_file
from orchestrator.embedded.ports import LOOPBACK

# Per call. SmolLM2 can take twice that, for another half a gigabyte of memory.
CONTEXT_TOKENS = 4096
PARALLEL_CALLS = 4


def parameters(*, port: int) -> xllamacpp.CommonParams:
    chosen = xllamacpp.CommonParams()
    chosen.model.path = str(model_file())
    chosen.model_alias = {MODEL_NAME}
    chosen.hostnames = [LOOPBACK]
    chosen.port = port
    chosen.n_parallel = PARALLEL_CALLS
    chosen.n_ctx = CONTEXT_TOKENS * PARALLEL_CALLS
    chosen.use_jinja = True
    chosen.ui = False
    # No page that a browser happens to show may use the model.
    chosen.cors_origins = f"http://{LOOPBACK}"
    chosen.cpuparams.n_threads = compute_threads()
    return chosen


def compute_threads() -> int:
    # llama.cpp's threads wait for each other at every layer. One that has to share its core holds
    # up all: on two busy cores two threads were eight times slower than one. The model is too small
    # to gain from more than four.
    spare = len(os.sched_getaffinity(0)) - 1
    return max(1, min(4, spare))


def serve(*, port: int) -> None:
    # End at once, as the kernel does it: llama.cpp's own way out hangs while the model loads.
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, signal.SIG_DFL)
    server = xllamacpp.Server(parameters(port=port))
    print(f"serving {MODEL_NAME} on {server.listening_address}", flush=True)
    signal.pause()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    serve(port=parser.parse_args().port)
