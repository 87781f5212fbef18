from datetime import date

import pytest
from django.test import Client
from django.urls import reverse

from costs.models import TenantPrice
from tests.world import World

FREE = {
    "provider": "openai",
    "model": "*",
    "valid_from": "2026-01-01",
    "input_usd": "0",
    "output_usd": "0",
}
LIST = "admin:costs_tenantprice_changelist"


@pytest.fixture
def operator(acme: World) -> Client:
    return acme.operator()


def price(world: World) -> TenantPrice:
    with world.scope():
        return TenantPrice.objects.create(
            provider="openai",
            model="gpt-5",
            valid_from=date(2026, 1, 1),
            input_usd=2,
            output_usd=8,
        )


def models(world: World) -> list[str]:
    with world.scope():
        return list(TenantPrice.objects.values_list("model", flat=True))


def test_owner_cannot_make_the_operators_key_free(acme: World) -> None:
    answer = acme.browser().post(reverse("admin:costs_tenantprice_add"), FREE)

    assert answer.status_code == 403
    assert models(acme) == []


def test_owner_cannot_remove_what_was_agreed(acme: World) -> None:
    agreed = price(acme)
    client = acme.browser()

    alone = client.post(
        reverse("admin:costs_tenantprice_delete", args=[agreed.pk]), {"post": "yes"}
    )
    client.post(
        reverse(LIST),
        {"action": "delete_selected", "_selected_action": [agreed.pk], "post": "yes"},
    )

    assert alone.status_code == 403
    assert models(acme) == ["gpt-5"]


def test_owner_sees_what_was_agreed(acme: World) -> None:
    price(acme)

    assert "gpt-5" in acme.browser().get(reverse(LIST)).content.decode()


def test_operator_agrees_on_a_price_and_takes_it_back(acme: World, operator: Client) -> None:
    operator.post(reverse("admin:costs_tenantprice_add"), FREE)
    assert models(acme) == ["*"]

    with acme.scope():
        agreed = TenantPrice.objects.get()
    operator.post(reverse("admin:costs_tenantprice_delete", args=[agreed.pk]), {"post": "yes"})
    assert models(acme) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"input_usd": "-1"}, "It cannot be negative."),
        ({"cached_usd": "-0.1"}, "It cannot be negative."),
        ({"output_usd": ""}, "required"),
        ({"output_usd": "NaN"}, "Enter a number"),
        ({"input_usd": "1e30"}, "digits"),
        ({"tiers": '[{"above_input_tokens": 0, "input": "1", "output": "1"}]'}, "no rates"),
        ({"tiers": '[{"above_input_tokens": 9, "input": "-1", "output": "1"}]'}, "no rates"),
    ],
)
def test_what_is_no_price_is_told_at_its_field(
    acme: World, operator: Client, wrong: dict[str, str], said: str
) -> None:
    answer = operator.post(reverse("admin:costs_tenantprice_add"), {**FREE, **wrong})

    assert said in answer.content.decode()
    assert models(acme) == []


def test_second_price_from_the_same_day_is_refused(acme: World, operator: Client) -> None:
    operator.post(reverse("admin:costs_tenantprice_add"), FREE)

    answer = operator.post(reverse("admin:costs_tenantprice_add"), {**FREE, "input_usd": "2"})

    assert "already" in answer.content.decode()
    assert models(acme) == ["*"]
