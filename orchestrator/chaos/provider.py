"""A model provider in a process of its own: OpenAI's chat protocol, and a log that cannot lie.

Every request is on the disk before anything else is done with it, every answer before it is sent.
What to answer stands in the prompt, so nothing here knows of workflows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

from orchestrator.chaos import handing
from orchestrator.chaos.flows import said

ADDRESS: Final = "127.0.0.1"
# Refused, and no try will change it.
_FOR_GOOD: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the log. `turn` is read off the conversation: one more than its answers."""

    at: float
    what: Literal["asked", "answered", "refused"]
    call: str
    run: str
    step: str
    turn: int


def entries(log: Path) -> list[Entry]:
    return [Entry(**json.loads(line)) for line in log.read_text().splitlines()]


class Provider:
    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._guard = threading.Lock()
        self._numbers = count(1)
        self._asked: Counter[tuple[str, str]] = Counter()

    def chat(self, body: dict[str, Any]) -> tuple[int, str, dict[str, Any]]:
        """Status, call id and answer."""
        task = next(each for each in body["messages"] if each["role"] == "user")
        # Behind it may stand what models are told of data in a prompt.
        script, _ = json.JSONDecoder().raw_decode(task["content"])
        turn = 1 + sum(message["role"] == "assistant" for message in body["messages"])
        with self._guard:
            call = f"call-{next(self._numbers)}"
            before = self._asked[script["run"], script["step"]]
            self._asked[script["run"], script["step"]] += 1
        self._write("asked", call, script, turn)
        time.sleep(script["seconds"])
        status = _status(script, before)
        self._write("answered" if status == 200 else "refused", call, script, turn)
        if status != 200:
            return status, call, {"error": {"message": "as it was told to", "code": str(status)}}
        return status, call, _answer(call, body, script, turn)

    def _write(self, what: Any, call: str, script: dict[str, Any], turn: int) -> None:
        entry = Entry(
            at=time.time(), what=what, call=call, run=script["run"], step=script["step"], turn=turn
        )
        os.write(self._log, (json.dumps(asdict(entry)) + "\n").encode())
        os.fsync(self._log)


def _status(script: dict[str, Any], before: int) -> int:
    if script["failing"]:
        return _FOR_GOOD
    stumbles: list[int] = script["stumbles"]
    return stumbles[before] if before < len(stumbles) else 200


def _answer(call: str, body: dict[str, Any], script: dict[str, Any], turn: int) -> dict[str, Any]:
    message = _message(body, script, turn)
    choice = {
        "index": 0,
        "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
        "message": message,
    }
    return {
        "id": call,
        "object": "chat.completion",
        "model": body["model"],
        "choices": [choice],
        "usage": {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70},
    }


def _message(body: dict[str, Any], script: dict[str, Any], turn: int) -> dict[str, Any]:
    if turn <= script.get("turns", 0):
        return _calls(turn)
    told = {"route": script["route"], "said": said(script["run"], script["step"])}
    if "tasks" in script:
        return handing.message(body, script, turn=turn, answer=told)
    return {"role": "assistant", "content": json.dumps(script.get("answer", told))}


def _calls(turn: int) -> dict[str, Any]:
    """Two tools at a time, with other arguments in each turn."""
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": f"turn{turn}-{number}",
                "type": "function",
                "function": {"name": "echo", "arguments": json.dumps({"value": [turn, number]})},
            }
            for number in (1, 2)
        ],
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: Provider

    def do_GET(self) -> None:
        self._reply(200, {}, "")

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        sent = self.rfile.read(size)
        if len(sent) < size:
            # Who asked died over it: that is no request.
            self.close_connection = True
            return
        status, call, answer = self.provider.chat(json.loads(sent))
        self._reply(status, answer, call)

    def _reply(self, status: int, answer: dict[str, Any], call: str) -> None:
        content = json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("x-request-id", call)
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            # Who asked is dead.
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """The log above is enough."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Those who ask are killed all the time.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    _Handler.provider = Provider(arguments.log)
    _Server((ADDRESS, arguments.port), _Handler).serve_forever()


if __name__ == "__main__":
    main()
