"""The embedded default with small stand-ins on top of the real servers.

Web is Python's own file server, and `manage.py` is `embedded_manage.py`. What is tested is the
supervisor; the product itself runs in tests/e2e.
"""

import sys
from functools import partial
from pathlib import Path

from orchestrator.embedded import cli, commands, stack
from orchestrator.embedded.model import answers
from orchestrator.embedded.ports import LOOPBACK
from orchestrator.embedded.processes import Service


def manage(*arguments):
    return (sys.executable, str(Path(__file__).with_name("embedded_manage.py")), *arguments)


def processes(home, *, environment, ports):
    port = str(ports["web"])
    web = Service(
        name="web",
        command=(sys.executable, "-m", "http.server", "--bind", LOOPBACK, port),
        directory=home.path,
        log=home.logs / "web.log",
        environment=environment,
        is_ready=partial(answers, f"http://{LOOPBACK}:{port}/"),
    )
    return (web,)


if __name__ == "__main__":
    commands.manage = manage
    stack.processes = processes
    sys.exit(cli.main_in_sentences())
