from pathlib import Path

from orchestrator.embedded.demo import DemoTenant, directions
from orchestrator.embedded.errors import PortTakenError, ServerDiedError

DEMO = DemoTenant(
    tenant="acme", project="research", admin_user="ada", admin_password="pw", api_key="key-1"
)
ADDRESSES = {
    "api": "http://127.0.0.1:8000/api/v1/",
    "docs": "http://127.0.0.1:8000/api/v1/docs",
    "admin": "http://127.0.0.1:8000/admin/",
    "flower": "http://127.0.0.1:5555",
}


def test_a_dead_server_is_told_with_the_end_of_its_log(tmp_path):
    log = tmp_path / "web.log"
    log.write_text("\n".join(f"line {number}" for number in range(100)))

    message = str(ServerDiedError("web", "stopped at start with exit code 1", log))

    assert message.startswith("web stopped at start with exit code 1.")
    assert "line 99" in message
    assert "line 50" not in message


def test_a_full_disk_in_the_log_is_said_in_words(tmp_path):
    log = tmp_path / "postgres.log"
    log.write_text("FATAL: could not write lock file: No space left on device")

    assert "The disk is full." in str(ServerDiedError("postgres", "stopped", log))


def test_a_server_without_a_log_is_told_too():
    assert "left no log" in str(ServerDiedError("web", "stopped", Path("/nowhere/web.log")))


def test_a_taken_port_names_the_variable_that_chose_it():
    assert "Set PORT to a free port" in str(PortTakenError(8000, "PORT"))


def test_the_directions_hold_a_line_that_starts_a_run():
    text = directions(DEMO, addresses=ADDRESSES, flower_login="muster:secret")

    assert "curl -sS http://127.0.0.1:8000/api/v1/runs" in text
    assert "'Authorization: Bearer key-1'" in text
    assert '"workflow": "research-report"' in text
    assert "muster / secret" in text
