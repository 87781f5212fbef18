"""Migration operations that build the second wall: row-level security and composite keys.

Role names are fixed (`muster_app`, `muster_system`); log in as them or as a member of them.
"""

from typing import Any

from django.apps.registry import Apps
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

APP_ROLE = "muster_app"
SYSTEM_ROLE = "muster_system"
CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"


class _DatabaseOnly(Operation):
    """Changes the database alone; Django's model state stays as it is."""

    reversible = True

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        return None

    def _table(self, apps: Apps, app_label: str, model: str) -> str:
        label, name = model.split(".") if "." in model else (app_label, model)
        return str(apps.get_model(label, name)._meta.db_table)


class IsolateTenant(_DatabaseOnly):
    """Row-level security for a tenant-owned table, and the key its children refer to.

    The key begins with the id: beginning with the tenant, which every query names, it would
    tempt the planner to read all of a tenant's rows.

    `audited` adds the trigger that writes the audit log; columns in `hidden` stay out of
    it. `append_only` refuses changes by trigger (grants refuse them too, see `privileges`), but of
    the columns in `rewordable`, which only functions with their owner's rights may change.
    A table that nothing refers to is a `leaf` and is spared the key for children.
    """

    def __init__(
        self,
        model: str,
        *,
        tenant_column: str = "tenant_id",
        audited: bool = True,
        audit_events: str = "INSERT OR UPDATE OR DELETE",
        hidden: tuple[str, ...] = (),
        append_only: bool = False,
        rewordable: tuple[str, ...] = (),
        leaf: bool = False,
    ) -> None:
        self.model = model
        self.tenant_column = tenant_column
        self.audited = audited
        self.audit_events = audit_events
        self.hidden = hidden
        self.append_only = append_only
        self.rewordable = rewordable
        self.leaf = leaf

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        table = self._table(to_state.apps, app_label, self.model)
        for statement in self._statements(table):
            schema_editor.execute(statement, params=None)

    def _statements(self, table: str) -> list[str]:
        own = f"{self.tenant_column} = {CURRENT_TENANT}"
        statements = [
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY tenant_rows ON {table} TO {APP_ROLE} USING ({own}) WITH CHECK ({own})",
            f"CREATE POLICY all_rows ON {table} TO {SYSTEM_ROLE} USING (true) WITH CHECK (true)",
        ]
        if self.tenant_column != "id" and not self.leaf:
            statements.append(
                f"ALTER TABLE {table} ADD CONSTRAINT {table}_id_tenant_id UNIQUE (id, tenant_id)"
            )
        if self.audited:
            hidden = ", ".join(f"'{column}'" for column in self.hidden)
            statements.append(
                f"CREATE TRIGGER audit AFTER {self.audit_events} ON {table}"
                f" FOR EACH ROW EXECUTE FUNCTION muster_audit({hidden})"
            )
        if self.append_only:
            statements.append(
                f"CREATE TRIGGER append_only BEFORE UPDATE ON {table} FOR EACH ROW"
                f" {self._unless_reworded()} EXECUTE FUNCTION muster_refuse_change()"
            )
        return statements

    def _unless_reworded(self) -> str:
        if not self.rewordable:
            return ""
        besides = "".join(f" - '{column}'" for column in self.rewordable)
        return f"WHEN (to_jsonb(OLD){besides} IS DISTINCT FROM to_jsonb(NEW){besides})"

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        table = self._table(from_state.apps, app_label, self.model)
        for statement in (
            f"DROP TRIGGER IF EXISTS audit ON {table}",
            f"DROP TRIGGER IF EXISTS append_only ON {table}",
            f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_id_tenant_id",
            f"DROP POLICY tenant_rows ON {table}",
            f"DROP POLICY all_rows ON {table}",
            f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
        ):
            schema_editor.execute(statement, params=None)

    def describe(self) -> str:
        return f"Isolate {self.model} by tenant"


class TenantReference(_DatabaseOnly):
    """The composite foreign key (tenant_id, column) behind a `TenantForeignKey`."""

    def __init__(self, model: str, field: str, *, on_delete: str = "CASCADE") -> None:
        self.model = model
        self.field = field
        self.on_delete = on_delete

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        model = to_state.apps.get_model(app_label, self.model)
        field: Any = model._meta.get_field(self.field)
        table, column = model._meta.db_table, field.column
        target = field.related_model._meta.db_table
        # SET NULL must spare tenant_id, which is never null.
        action = f"SET NULL ({column})" if self.on_delete == "SET NULL" else self.on_delete
        schema_editor.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT {_constraint(table, column)}"
            f" FOREIGN KEY (tenant_id, {column}) REFERENCES {target} (tenant_id, id)"
            f" ON DELETE {action}",
            params=None,
        )

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        model = from_state.apps.get_model(app_label, self.model)
        column = model._meta.get_field(self.field).column
        table = model._meta.db_table
        schema_editor.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT {_constraint(table, column)}", params=None
        )

    def describe(self) -> str:
        return f"Tie {self.model}.{self.field} to the same tenant"


def _constraint(table: str, column: str) -> str:
    return f"{table}_{column}_same_tenant"
