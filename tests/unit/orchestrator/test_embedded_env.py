import stat
from dataclasses import asdict

import pytest

from orchestrator.embedded.commands import read_env_file
from orchestrator.embedded.env import check_inherited, load_secrets, write_env_file
from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.state import Home

OWN_DATABASE = "postgres://app:x@db.example.com/muster"


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    home.prepare()
    return home


def test_secrets_are_made_once_and_kept(home):
    first = load_secrets(home)

    assert load_secrets(home) == first
    assert stat.S_IMODE(home.secrets_file.stat().st_mode) == 0o600


def test_secrets_of_two_clones_differ(tmp_path):
    homes = [Home(tmp_path / name) for name in ("acme", "globex")]
    for home in homes:
        home.prepare()

    acme, globex = (set(asdict(load_secrets(home)).values()) for home in homes)

    assert len(acme) == len(globex) == 8
    assert not acme & globex


def test_a_new_kind_of_secret_is_added_to_the_old_ones(home):
    home.secrets_file.write_text('{"owner": "kept"}')

    secrets = load_secrets(home)

    assert secrets.owner == "kept"
    assert load_secrets(home) == secrets


def test_damaged_secrets_are_reported_and_not_replaced(home):
    home.secrets_file.write_text('{"owner": ')

    with pytest.raises(EmbeddedError, match=r"secrets\.json is damaged"):
        load_secrets(home)

    assert home.secrets_file.read_text() == '{"owner": '


def test_secrets_do_not_show_in_a_representation(home):
    secrets = load_secrets(home)

    assert secrets.owner not in repr(secrets)
    assert secrets.owner not in repr(secrets.passwords)


def test_a_database_of_ones_own_needs_all_three_roles():
    with pytest.raises(EmbeddedError, match="MIGRATION_DATABASE_URL and SYSTEM_DATABASE_URL must"):
        check_inherited({"DATABASE_URL": OWN_DATABASE})


def test_the_env_file_reads_back_as_written(home):
    environment = {"DATABASE_URL": f"{OWN_DATABASE}?sslmode=require", "SECRET_KEY": "a=b"}

    write_env_file(home, environment)

    assert read_env_file(home.env_file) == environment


def test_no_env_file_means_no_variables(home):
    assert read_env_file(home.env_file) == {}
