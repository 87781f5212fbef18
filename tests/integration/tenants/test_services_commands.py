import io
import uuid

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from tenants.models import Membership, Project, Tenant
from tenants.scope import tenant_scope
from tests.rest import get
from tests.world import World


def run(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue()


def test_create_tenant_makes_a_project_and_an_owner(live_db: None) -> None:
    slug = f"initech-{uuid.uuid4().hex[:8]}"

    printed, hints = run("create_tenant", slug, "--owner", f"peter-{slug}")

    tenant = Tenant.objects.using("system").get(slug=slug)
    assert printed == str(tenant.id)
    assert "changepassword" in hints
    with tenant_scope(tenant.id):
        assert [project.slug for project in Project.objects.all()] == ["main"]
        assert [member.role for member in Membership.objects.all()] == ["owner"]


@pytest.mark.parametrize("slug", ["Not A Slug", ""])
def test_create_tenant_refuses_a_bad_name(live_db: None, slug: str) -> None:
    with pytest.raises(CommandError) as refused:
        run("create_tenant", slug)

    assert refused.value.returncode == 2


def test_create_tenant_refuses_a_taken_name(acme: World) -> None:
    with pytest.raises(CommandError, match="exists already"):
        run("create_tenant", acme.tenant.slug)


def test_create_api_key_prints_a_key_that_works(acme: World) -> None:
    key, facts = run("create_api_key", "--tenant", acme.tenant.slug)

    answer = get(Client(), "workflows", authorization=f"Bearer {key}")

    assert answer.status_code == 200
    assert key not in facts


def test_create_api_key_narrows_and_limits(acme: World) -> None:
    key, _ = run(
        *("create_api_key", "--tenant", acme.tenant.slug, "--project", "main"),
        *("--scope", "runs:read", "--expires-days", "1"),
    )

    assert get(Client(), "workflows", authorization=f"Bearer {key}").status_code == 403
    assert get(Client(), "runs", authorization=f"Bearer {key}").status_code == 200


def test_create_api_key_names_what_is_missing(acme: World) -> None:
    with pytest.raises(CommandError, match="no tenant 'nowhere'"):
        run("create_api_key", "--tenant", "nowhere")
    with pytest.raises(CommandError, match="no project 'nowhere'"):
        run("create_api_key", "--tenant", acme.tenant.slug, "--project", "nowhere")
