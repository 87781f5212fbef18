"""Functions that run as their owner: nobody puts tables or triggers of their own in their way."""

import pytest
from django.db import ProgrammingError, connection, transaction

from tenants.principals import new_key, principal_of_key
from tests.world import World

FORGED = """
CREATE TEMP TABLE api_key AS SELECT uuidv7() AS id, %s::uuid AS tenant_id, NULL::uuid AS project_id,
    'forged' AS name, ARRAY['admin'] AS scopes, sha256(%s::bytea) AS key_hash,
    NULL::timestamptz AS expires_at, NULL::timestamptz AS revoked_at,
    NULL::timestamptz AS last_used_at
"""


def test_temporary_table_forges_no_key(acme: World, globex: World) -> None:
    key = new_key()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(FORGED, [globex.tenant.id, key.encode()])
        cursor.execute("GRANT ALL ON api_key TO PUBLIC")

        assert principal_of_key(key) == "unknown"
        transaction.set_rollback(True)


def test_application_cannot_hang_the_audit_on_a_table_of_its_own(acme: World) -> None:
    forge = (
        "CREATE TEMP TABLE invented (id int, tenant_id uuid); CREATE TRIGGER audit"
        " AFTER INSERT ON invented FOR EACH ROW EXECUTE FUNCTION muster_audit()"
    )
    refused = pytest.raises(ProgrammingError, match="permission denied for function muster_audit")
    with refused, acme.scope(), connection.cursor() as cursor:
        cursor.execute(forge)


def test_every_function_of_the_owner_searches_temporary_tables_last(live_db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT proname, proconfig FROM pg_proc WHERE prosecdef"
            " AND pronamespace = 'public'::regnamespace"
        )
        functions = dict(cursor.fetchall())

    assert {"muster_audit", "muster_key_by_hash", "muster_memberships", "muster_note"} <= set(
        functions
    )
    safe = ["search_path=pg_catalog, public, pg_temp"]
    assert {name for name, config in functions.items() if config != safe} == set()


def test_everybody_may_run_no_function_of_the_owner(live_db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT proname FROM pg_proc p WHERE prosecdef"
            " AND pronamespace = 'public'::regnamespace AND EXISTS (SELECT FROM"
            " aclexplode(COALESCE(proacl, acldefault('f', proowner))) WHERE grantee = 0)"
        )
        assert cursor.fetchall() == []
