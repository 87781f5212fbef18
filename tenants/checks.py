"""Start-up checks of what isolation rests on."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from tenants.isolation import APP_ROLE, SYSTEM_ROLE

_IDENTITY = """
SELECT current_user,
       rolsuper,
       rolbypassrls,
       EXISTS (SELECT FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner
               WHERE c.relname = 'tenant' AND pg_has_role(current_user, o.oid, 'MEMBER')),
       pg_has_role(current_user, %s, 'MEMBER'),
       current_setting('server_version_num')::int
FROM pg_roles WHERE rolname = current_user
"""
_MINIMUM_VERSION = 180000
_VARIABLES = {"default": "DATABASE_URL", "system": "SYSTEM_DATABASE_URL"}


def register_checks() -> None:
    register(Tags.database)(check_database_roles)


def check_database_roles(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """The application must not be able to look over the wall that it builds."""
    problems: list[CheckMessage] = []
    for alias, role in (("default", APP_ROLE), ("system", SYSTEM_ROLE)):
        if databases and alias in databases:
            problems += [
                Error(text, hint=hint, obj=alias, id=f"tenants.{code}")
                for code, text, hint in _role_problems(alias, role)
            ]
    return problems


def refuse_unsafe_start(*aliases: str) -> None:
    """Raise ImproperlyConfigured if a connection could look over the wall between tenants."""
    absent = [alias for alias in aliases if not settings.DATABASES[alias]["NAME"]]
    if absent:
        names = ", ".join(_VARIABLES[alias] for alias in absent)
        raise ImproperlyConfigured(f"Set {names}; docker/roles.sql tells which role it is for.")
    problems = check_database_roles(databases=aliases)
    if problems:
        told = [f"{problem.msg} {problem.hint}" for problem in problems]
        raise ImproperlyConfigured("\n".join(told))


def _role_problems(alias: str, role: str) -> list[tuple[str, str, str]]:
    with connections[alias].cursor() as cursor:
        cursor.execute(_IDENTITY, [role])
        user, superuser, bypasses, owner, member, version = cursor.fetchone()
    hint = f"Connect as {role} or a member of it; docker/roles.sql creates the roles."
    found = [
        (
            superuser,
            "E001",
            f"Database role {user} is a superuser: row-level security is off for it.",
        ),
        (
            bypasses,
            "E002",
            f"Database role {user} has BYPASSRLS: row-level security is off for it.",
        ),
        (
            owner and not superuser,
            "E003",
            f"Database role {user} owns the tables: row-level security is off for it.",
        ),
        (not member, "E004", f"Database role {user} is not {role}."),
        (version < _MINIMUM_VERSION, "E005", "PostgreSQL 18 or newer is needed (uuidv7)."),
    ]
    return [(code, text, hint) for wrong, code, text in found if wrong]
