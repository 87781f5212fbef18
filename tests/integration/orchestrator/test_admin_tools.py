"""The pages on which admins allow tools and set them up."""

import json

import pytest

from agents_app.core.approving import CallApproval
from agents_app.selectors.toolboxes import toolbox_of
from tenants.models import Membership
from tests.world import World

PAGE = "/admin/tools/"


def as_role(world: World, role: str) -> None:
    with world.scope():
        Membership.objects.update(role=role)


def test_page_lists_every_tool_and_why_it_may_not_be_used(acme: World) -> None:
    html = acme.browser().get(PAGE).content.decode()

    assert "calculator" in html
    assert "an admin can allow it under Tools" in html
    assert f'href="{PAGE}web_fetch/"' in html


def test_admin_allows_a_tool_and_sets_it_up(acme: World, globex: World) -> None:
    settings = json.dumps({"hosts": ["api.example.com"]})
    posted = {"allowed": "on", "settings": settings}
    answer = acme.browser().post(f"{PAGE}http_request/", posted, follow=True)

    assert "http_request is stored" in answer.content.decode()
    shown = acme.browser().get(f"{PAGE}http_request/").content.decode()
    assert "api.example.com" in shown
    for world, is_allowed in ((acme, True), (globex, False)):
        with world.scope():
            assert ("http_request" in toolbox_of(world.tenant.id)) == is_allowed


def test_admin_refuses_a_tool(acme: World) -> None:
    acme.browser().post(f"{PAGE}echo/", {"save": "Save"})

    with acme.scope():
        assert "echo" not in toolbox_of(acme.tenant.id)


@pytest.mark.parametrize("settings", ['{"hosts": ["a b"]}', '{"colour": 1}', "nonsense", "[]"])
def test_settings_that_do_not_fit_are_told_at_their_field(acme: World, settings: str) -> None:
    posted = {"allowed": "on", "settings": settings}
    answer = acme.browser().post(f"{PAGE}http_request/", posted)

    assert answer.context["form"].errors["settings"]
    with acme.scope():
        assert "http_request" not in toolbox_of(acme.tenant.id)


@pytest.mark.parametrize("role", ["viewer", "editor"])
def test_others_than_admins_look_and_change_nothing(acme: World, role: str) -> None:
    as_role(acme, role)
    browser = acme.browser()

    assert browser.get(PAGE).status_code == 200
    assert browser.post(f"{PAGE}echo/", {"x": 1}).status_code == 403


def test_unknown_tool_is_404(acme: World) -> None:
    assert acme.browser().get(f"{PAGE}nothing/").status_code == 404


def test_admin_has_calls_of_a_tool_approved(acme: World) -> None:
    posted = {
        "allowed": "on",
        "ask": "always",
        "roles": ["owner"],
        "expires_hours": "2",
        "on_expire": "fail",
    }
    acme.browser().post(f"{PAGE}echo/", posted, follow=True)

    wanted = CallApproval(roles=("owner",), expires_seconds=7200, on_expire="fail")
    with acme.scope():
        assert toolbox_of(acme.tenant.id)["echo"].approval == wanted
    assert "by owner" in acme.browser().get(PAGE).content.decode()
    form = acme.browser().get(f"{PAGE}echo/").context["form"]
    assert {name: form.initial[name] for name in ("ask", "roles", "expires_hours")} == {
        "ask": "always",
        "roles": ["owner"],
        "expires_hours": 2.0,
    }

    acme.browser().post(f"{PAGE}echo/", {"allowed": "on", "ask": "tool"})
    with acme.scope():
        assert toolbox_of(acme.tenant.id)["echo"].approval is None


def test_approval_by_nobody_is_told_at_its_field(acme: World) -> None:
    answer = acme.browser().post(f"{PAGE}echo/", {"allowed": "on", "ask": "always"})

    assert answer.context["form"].errors["roles"]
