"""Keeping the provider keys of tenants: encrypted, rotated, retired, under newer keys of ours."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connections

from tenants import encryption
from tenants.errors import EncryptionOffError, SecretUnreadableError
from tenants.models import AuditEntry, Credential
from tenants.selectors.credentials import serving_credentials, state_of
from tenants.services.credentials import (
    change_credential,
    create_credential,
    delete_credential,
    reencrypt_all,
    retire_secret,
    rotate_credential,
)
from tenants.services.errors import (
    AddressRefusedError,
    AlreadyExistsError,
    KeylessProviderError,
    NothingToRetireError,
    ProviderTakenError,
    SecretInvalidError,
    StillRotatingError,
)
from tests.world import World

OLD = "sk-acme-old-0123456789-aaaa"
NEW = "sk-acme-new-0123456789-bbbb"


def kept(world: World, **facts: object) -> Credential:
    given = {"name": "main", "provider": "openai", "secret": OLD, **facts}
    with world.scope():
        return create_credential(**given)


def secrets_of(world: World, provider: str = "openai") -> list[str]:
    """What calls of the tenant would be made with, the first choice first."""
    with world.scope():
        row = serving_credentials()[provider]
    return [encryption.decrypted(token, owner=row.id) for token in row.secrets]


@contextmanager
def keys(*wanted: str) -> Iterator[None]:
    given = settings.CREDENTIALS_KEYS
    settings.CREDENTIALS_KEYS = list(wanted)
    try:
        yield
    finally:
        settings.CREDENTIALS_KEYS = given


def new_key() -> str:
    return Fernet.generate_key().decode()


def test_secret_is_kept_encrypted_and_known_by_its_end(acme: World) -> None:
    row = kept(acme)

    assert OLD.encode() not in bytes(row.secret)
    assert row.hint == "aaaa"
    assert secrets_of(acme) == [OLD]


def test_short_secret_is_not_half_shown(acme: World) -> None:
    assert kept(acme, secret="0123456789").hint == ""


def test_stranger_sees_no_credential(acme: World, globex: World) -> None:
    row = kept(acme)

    with globex.scope():
        assert serving_credentials() == {}
        with pytest.raises(Credential.DoesNotExist):
            rotate_credential(row, secret=NEW)


def test_two_tenants_may_use_the_same_name_and_key(acme: World, globex: World) -> None:
    kept(acme)
    kept(globex)

    assert secrets_of(acme) == secrets_of(globex) == [OLD]


def test_secret_copied_into_another_row_does_not_open(acme: World, globex: World) -> None:
    stolen = kept(acme).secret
    row = kept(globex)

    with pytest.raises(SecretUnreadableError):
        encryption.decrypted(stolen, owner=row.id)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "   ",
        "short",
        "has a space in it",
        "sk-line-break\n",
        "\tsk-tabbed",
        "sk-k\u00e9y-123",
        "x" * 1001,
    ],
    ids=["empty", "blank", "short", "space", "newline", "tab", "accent", "long"],
)
def test_what_cannot_be_a_key_is_refused_without_being_told(acme: World, secret: str) -> None:
    with pytest.raises(SecretInvalidError) as caught:
        kept(acme, secret=secret)

    assert not secret.strip() or secret.strip() not in str(caught.value)


@pytest.mark.parametrize("provider", ["nonsense", "local", "simulated", "ollama", ""])
def test_provider_that_takes_no_key_is_refused(acme: World, provider: str) -> None:
    with pytest.raises(KeylessProviderError, match="openai"):
        kept(acme, provider=provider)


def test_name_is_taken_once(acme: World) -> None:
    kept(acme)

    with pytest.raises(AlreadyExistsError):
        kept(acme, provider="anthropic")


def test_one_enabled_credential_serves_a_provider(acme: World) -> None:
    first = kept(acme)
    with pytest.raises(ProviderTakenError, match="main"):
        kept(acme, name="second")

    second = kept(acme, name="second", secret=NEW, enabled=False)
    with acme.scope():
        change_credential(first, enabled=False)
        change_credential(second, enabled=True)

    assert secrets_of(acme) == [NEW]


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        ("openai", "https://models.example.com/v1"),
        ("compatible", ""),
        ("compatible", "http://models.example.com/v1"),
        ("compatible", "https://127.0.0.1/v1"),
        ("compatible", "https://localhost:8000/v1"),
        ("compatible", "https://[::ffff:10.0.0.1]/v1"),
        ("compatible", "https://169.254.169.254/latest"),
        ("compatible", "https://user:pass@models.example.com"),
        ("compatible", "file:///etc/passwd"),
        ("compatible", "https://models.example.com/v1\nHost: x"),
    ],
)
def test_address_inside_or_beside_the_point_is_refused(
    acme: World, provider: str, url: str
) -> None:
    with pytest.raises(AddressRefusedError):
        kept(acme, provider=provider, base_url=url)


def test_both_secrets_serve_until_one_is_retired(acme: World) -> None:
    row = kept(acme)

    with acme.scope():
        row = rotate_credential(row, secret=NEW)
    assert secrets_of(acme) == [NEW, OLD]
    assert (row.hint, row.previous_hint, row.version) == ("bbbb", "aaaa", 2)

    with acme.scope():
        row = retire_secret(row)
    assert secrets_of(acme) == [NEW]
    assert row.version == 3


def test_rotation_can_be_given_up(acme: World) -> None:
    row = kept(acme)

    with acme.scope():
        row = retire_secret(rotate_credential(row, secret=NEW), newest=True)

    assert secrets_of(acme) == [OLD]
    assert row.hint == "aaaa"


def test_third_secret_waits_for_one_to_be_retired(acme: World) -> None:
    row = kept(acme)

    with acme.scope():
        with pytest.raises(NothingToRetireError):
            retire_secret(row)
        rotate_credential(row, secret=NEW)
        with pytest.raises(StillRotatingError):
            rotate_credential(row, secret="sk-acme-third-0123456789")


def test_same_secret_is_no_rotation(acme: World) -> None:
    row = kept(acme)

    with acme.scope(), pytest.raises(SecretInvalidError, match="already"):
        rotate_credential(row, secret=OLD)


def test_audit_tells_of_a_rotation_and_of_no_secret(acme: World) -> None:
    row = kept(acme)
    with acme.scope():
        retire_secret(rotate_credential(row, secret=NEW))
        delete_credential(row)

        told = AuditEntry.objects.filter(tenant=acme.tenant, object_type="credential")
        actions = [entry.action.partition(".")[2] for entry in told.order_by("id")]
        columns = {name for e in told for facts in (e.before, e.after) for name in facts or ()}
        text = str([(e.before, e.after) for e in told])

    assert actions == ["created", "changed", "changed", "deleted"]
    assert {"hint", "version"} <= columns
    assert not {"secret", "previous_secret"} & columns
    assert not any(part in text for part in (OLD, NEW, bytes(row.secret).decode()))


def test_secrets_do_not_show_in_what_is_printed(acme: World) -> None:
    row = kept(acme)

    with acme.scope():
        shown = repr(serving_credentials()) + repr(row) + str(row)

    assert OLD not in shown
    assert bytes(row.secret).decode() not in shown


def test_platform_without_keys_keeps_no_secret(acme: World) -> None:
    with keys(), pytest.raises(EncryptionOffError, match="CREDENTIALS_KEYS"):
        kept(acme)


def test_secret_of_a_key_that_is_gone_is_a_state_and_a_new_one_mends_it(acme: World) -> None:
    row = kept(acme)

    with keys(new_key()):
        assert state_of(row) == "unreadable"
        with acme.scope():
            row = rotate_credential(row, secret=NEW)
        assert secrets_of(acme) == [NEW]
        assert row.previous_secret is None


def test_older_keys_still_read(acme: World) -> None:
    row = kept(acme)

    with keys(new_key(), *settings.CREDENTIALS_KEYS):
        with acme.scope():
            assert state_of(row) == "unchecked"
        assert secrets_of(acme) == [OLD]


def test_reencryption_brings_all_tenants_under_the_newest_key(acme: World, globex: World) -> None:
    older, newer = settings.CREDENTIALS_KEYS[0], new_key()
    kept(globex)
    with acme.scope():
        rotate_credential(kept(acme), secret=NEW)
    with keys(newer, older):
        assert reencrypt_all().done >= 2
        assert reencrypt_all().done == 0

    with keys(newer):
        assert secrets_of(acme) == [NEW, OLD]
        assert secrets_of(globex) == [OLD]
    with keys(older, newer):
        reencrypt_all()


def test_command_names_what_no_key_reads(acme: World) -> None:
    gone, stdout, stderr = new_key(), io.StringIO(), io.StringIO()
    with keys(gone):
        row = kept(acme, name="lost")

    with pytest.raises(SystemExit):
        call_command("credentials", "reencrypt", stdout=stdout, stderr=stderr)

    assert f"{acme.tenant.id}/lost" in stderr.getvalue()
    with keys(gone):
        assert secrets_of(acme) == [OLD]
    with acme.scope():
        delete_credential(row)


def test_command_without_keys_says_what_to_set(live_db: None) -> None:
    with keys(), pytest.raises(CommandError, match="CREDENTIALS_KEYS"):
        call_command("credentials", "reencrypt")


@pytest.mark.parametrize(
    "statement", ["DELETE FROM credential", "INSERT INTO credential DEFAULT VALUES"]
)
def test_system_neither_makes_nor_removes_credentials(live_db: None, statement: str) -> None:
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        connections["system"].cursor() as cursor,
    ):
        cursor.execute(statement)
