import pytest

from orchestrator.embedded import bootstrap


@pytest.mark.parametrize(
    "output",
    [
        "WARNING: Failed to establish a new connection: [Errno 111] Connection refused",
        "error: Failed to fetch: `https://example.com/simple/django/`",
        "dns error: failed to lookup address information",
    ],
)
def test_an_unreachable_registry_is_told_as_such(output):
    assert "registry cannot be reached" in bootstrap.install_failure(output)


def test_a_full_disk_is_told_as_such():
    output = "error: Failed to fetch: failed to write: No space left on device (os error 28)"

    assert bootstrap.install_failure(output).startswith("The disk is full")


def test_any_other_failure_shows_its_last_lines():
    output = "\n".join(f"line {number}" for number in range(100))

    failure = bootstrap.install_failure(output)

    assert "line 99" in failure
    assert "line 50" not in failure


def test_a_missing_venv_module_names_the_package_to_install():
    assert "apt-get install python3-venv" in bootstrap.venv_failure("ensurepip is not available")


def test_every_pin_changes_the_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "REQUIREMENTS", tmp_path)
    for name in ("base.txt", "model.txt"):
        (tmp_path / name).write_text("django==5.2.1\n")
    before = bootstrap.digest(["base.txt"])

    (tmp_path / "model.txt").write_text("django==5.2.2\n")

    assert bootstrap.digest(["base.txt"]) != before
