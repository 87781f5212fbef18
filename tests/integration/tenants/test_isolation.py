import pytest
from django.apps import apps
from django.db import IntegrityError, ProgrammingError, connection, connections

from tenants.errors import TenantScopeError
from tenants.kernel.models import TenantForeignKey, TenantOwned
from tenants.models import AuditEntry, Project
from tenants.scope import current_tenant_id, tenant_scope
from tests.world import World

OWNED = [model for model in apps.get_models() if issubclass(model, TenantOwned)]


def fetch(query: str, *arguments: object) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(query, arguments)
        return cursor.fetchall()


def test_query_outside_a_scope_raises(live_db: None) -> None:
    with pytest.raises(TenantScopeError):
        Project.objects.all()


def test_scope_sees_its_own_tenant_alone(acme: World, globex: World) -> None:
    with acme.scope():
        assert list(Project.objects.all()) == [acme.project]


def test_raw_sql_without_a_scope_sees_nothing(acme: World) -> None:
    assert fetch("SELECT * FROM project") == []
    assert fetch("SELECT * FROM tenant") == []


def test_raw_sql_in_a_scope_sees_no_stranger(acme: World, globex: World) -> None:
    with acme.scope():
        assert fetch("SELECT id FROM project") == [(acme.project.id,)]


def test_raw_sql_cannot_write_a_strangers_row(acme: World, globex: World) -> None:
    with pytest.raises(ProgrammingError, match="row-level security"), acme.scope():
        fetch(
            "INSERT INTO project (id, tenant_id, slug, name, description)"
            " VALUES (uuidv7(), %s, 'x', 'x', '') RETURNING id",
            globex.tenant.id,
        )


def test_row_cannot_be_linked_to_a_strangers_row(acme: World, globex: World) -> None:
    with pytest.raises(IntegrityError, match="api_key_project_id_same_tenant"), acme.scope():
        fetch(
            "INSERT INTO api_key (id, tenant_id, name, project_id, scopes, prefix, key_hash)"
            " VALUES (uuidv7(), %s, 'x', %s, '{}', 'x', 'x') RETURNING id",
            acme.tenant.id,
            globex.project.id,
        )


def test_scope_of_another_tenant_cannot_be_nested(acme: World, globex: World) -> None:
    with pytest.raises(TenantScopeError), acme.scope(), globex.scope():
        pass


def test_scope_of_the_same_tenant_nests(acme: World) -> None:
    with acme.scope():
        with acme.scope():
            pass
        assert current_tenant_id() == acme.tenant.id
        assert Project.objects.count() == 1


def test_scope_ends_with_its_block(acme: World) -> None:
    with acme.scope():
        pass
    with pytest.raises(TenantScopeError):
        current_tenant_id()
    assert fetch("SELECT count(*) FROM project") == [(0,)]


def test_scope_inside_a_larger_transaction_is_taken_back(acme: World) -> None:
    from django.db import transaction

    with transaction.atomic():
        with tenant_scope(acme.tenant.id):
            pass
        assert fetch("SELECT count(*) FROM project") == [(0,)]


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_every_tenant_owned_table_has_row_level_security(live_db: None, model: type) -> None:
    table = model._meta.db_table

    assert fetch("SELECT relrowsecurity FROM pg_class WHERE relname = %s", table) == [(True,)]
    policies = fetch("SELECT policyname FROM pg_policies WHERE tablename = %s ORDER BY 1", table)
    assert policies == [("all_rows",), ("tenant_rows",)]


def tenant_keys() -> list[tuple[str, str]]:
    return [
        (model._meta.db_table, field.column)
        for model in apps.get_models()
        if any(f.name == "tenant" for f in model._meta.fields)
        for field in model._meta.fields
        if isinstance(field, TenantForeignKey)
    ]


@pytest.mark.parametrize(("table", "column"), tenant_keys())
def test_every_key_between_tenant_rows_is_composite(live_db: None, table: str, column: str) -> None:
    (definition,) = fetch(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s",
        f"{table}_{column}_same_tenant",
    )

    assert definition[0].startswith(f"FOREIGN KEY (tenant_id, {column})")


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_every_tenant_owned_table_has_an_index_for_its_lists(live_db: None, model: type) -> None:
    definitions = fetch(
        "SELECT indexdef FROM pg_indexes WHERE tablename = %s", model._meta.db_table
    )

    # Parts are listed with the whole that they belong to.
    searched = ("(tenant_id", "(run_id", "(agent_run_id", "(budget_id")
    assert any(start in definition for (definition,) in definitions for start in searched)


def test_no_plain_key_leads_from_one_tenant_owned_table_to_another() -> None:
    plain = [
        f"{model.__name__}.{field.name}"
        for model in OWNED
        for field in model._meta.fields
        if field.is_relation
        and not isinstance(field, TenantForeignKey)
        and issubclass(field.related_model, TenantOwned)
    ]

    assert plain == []


def test_change_is_audited_with_before_and_after(acme: World) -> None:
    with acme.scope():
        acme.project.name = "Renamed"
        acme.project.save(update_fields=["name"])

        entry = AuditEntry.objects.filter(tenant=acme.tenant, action="project.changed").get()
        assert (entry.before, entry.after) == ({"name": "Main"}, {"name": "Renamed"})


def test_audit_never_shows_a_keys_hash(acme: World) -> None:
    acme.key()

    with acme.scope():
        entry = AuditEntry.objects.get(tenant=acme.tenant, action="api_key.created")
        assert "key_hash" not in entry.after


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO audit_entry DEFAULT VALUES",
        "DELETE FROM audit_entry",
        "UPDATE audit_entry SET ip = ''",
    ],
)
@pytest.mark.parametrize("alias", ["default", "system"])
def test_audit_cannot_be_forged(live_db: None, alias: str, statement: str) -> None:
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        connections[alias].cursor() as cursor,
    ):
        cursor.execute(statement)


def test_not_even_the_owner_changes_the_audit_log(acme: World) -> None:
    with (
        pytest.raises(ProgrammingError, match="append-only"),
        connections["owner"].cursor() as cursor,
    ):
        cursor.execute("DELETE FROM audit_entry")


def test_application_cannot_make_a_tenant(live_db: None) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        fetch("INSERT INTO tenant (id, slug, name) VALUES (uuidv7(), 'x', 'x') RETURNING id")


def test_application_may_not_run_the_sweep(live_db: None) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        fetch("SELECT * FROM muster_sweep_runs(1)")
