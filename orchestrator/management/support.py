"""What the commands share: the tenant's scope, readable files and errors, watching a run."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from orchestrator.core.state import RunStatus
from orchestrator.core.yaml_io import load_text
from orchestrator.management.live import watch
from orchestrator.selectors.summary import run_summary
from tenants.kernel.errors import PlatformError
from tenants.models import Project, Tenant
from tenants.scope import Actor, acting_as, tenant_scope

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
EXIT_CODES: Final = {
    RunStatus.COMPLETED: 0,
    RunStatus.PARTIALLY_COMPLETED: 3,
    RunStatus.BUDGET_EXCEEDED: 4,
}


@contextmanager
def command_scope(slug: str) -> Iterator[Tenant]:
    """The scope of the tenant with this slug, acting as the command line."""
    tenant = Tenant.objects.using("system").filter(slug=slug).first()
    if tenant is None:
        known = ", ".join(Tenant.objects.using("system").values_list("slug", flat=True)[:10])
        raise usage(f"There is no tenant {slug!r}. Known: {known or 'none; use create_tenant'}.")
    with acting_as(Actor(kind="command", label="manage.py")), tenant_scope(tenant.id):
        yield tenant


def project_by_slug(slug: str | None) -> Project:
    """The named project, or the tenant's only one."""
    if slug is None:
        projects = list(Project.objects.all()[:2])
        if len(projects) == 1:
            return projects[0]
        raise usage("Name the project with --project; the tenant has none or several.")
    project = Project.objects.filter(slug=slug).first()
    if project is None:
        raise usage(f"There is no project {slug!r} in this tenant.")
    return project


def read_spec_file(path: str) -> dict[str, Any]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise usage(f"{path}: {error.strerror}.") from None
    with readable_errors(path):
        return load_text(content)


@contextmanager
def readable_errors(subject: str) -> Iterator[None]:
    """Turn an expected failure into a message without a traceback."""
    try:
        yield
    except PlatformError as error:
        raise usage(f"{subject}: {error}") from None


def usage(message: str) -> CommandError:
    return CommandError(message, returncode=EXIT_USAGE)


def watch_to_the_end(command: BaseCommand, tenant: Tenant, run_id: UUID, *, as_json: bool) -> None:
    """Show the run until it has ended, and exit as it did. Ctrl-C leaves; the run goes on."""
    try:
        status = watch(tenant.id, run_id)
    except KeyboardInterrupt:
        again = f"manage.py watch {run_id} --tenant {tenant.slug}"
        command.stderr.write(f"The run goes on. Watch it again with: {again}", style_func=str)
        sys.exit(EXIT_INTERRUPTED)
    if as_json:
        with tenant_scope(tenant.id):
            command.stdout.write(json.dumps(run_summary(run_id)))
    if code := EXIT_CODES.get(status, EXIT_FAILED):
        sys.exit(code)
