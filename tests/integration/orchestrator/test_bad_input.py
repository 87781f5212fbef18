"""What nobody should ask for: API and page say what is wrong, where, and what helps."""

from typing import Any

import pytest

from tests.e2e.stories import echo, simulated
from tests.engine_driver import drain
from tests.rest import call, get, made, post, problems
from tests.world import World


def tell(world: World, steps: dict[str, Any], *, given: Any = None) -> tuple[str, str]:
    """How a run of these steps ends, as its API tells; its page has to say the same."""
    api = world.client()
    workflow = made(post(api, "workflows", {"muster": 1, "name": "bad", "steps": steps}))
    made(post(api, f"workflows/{workflow['id']}/publish"))
    run = made(post(api, "runs", {"workflow": "bad", "input": given or {}}))

    drain(world, run["id"])

    told = made(get(api, f"runs/{run['id']}"))
    page = world.browser().get(f"/admin/orchestrator/run/{run['id']}/change/").content.decode()
    for part in told["status_reason"].split("`"):
        assert part.replace("'", "&#x27;").replace(">", "&gt;") in page
    return told["status"], told["status_reason"]


def looping(until: str, **fields: Any) -> dict[str, Any]:
    body = {"judge": echo(value={"accepted": False})}
    return {"polish": {"loop": {"steps": body, "until": until, "max_rounds": 3, **fields}}}


def test_list_that_is_no_list(acme: World) -> None:
    each = {**echo(value="${item}"), "map": {"over": "${input.list}"}}

    status, reason = tell(acme, {"each": each}, given={"list": "a, b"})

    assert status == "failed"
    assert reason == (
        "`each` failed: `${input.list}` gives a value of type string where a map needs a list"
    )


def test_condition_that_raises(acme: World) -> None:
    guarded = {**echo(value=1, needs=["a"]), "when": "steps.a.output.score > 3"}

    status, reason = tell(acme, {"a": echo(value={"n": 1}), "b": guarded})

    assert status == "failed"
    assert reason == (
        "`b` failed: The condition `steps.a.output.score > 3` failed: there is no `score`; "
        "ask with `has(...)` first where it may be missing"
    )


def test_condition_of_a_loop_that_raises(acme: World) -> None:
    status, reason = tell(acme, looping("steps.judge.output.score > 3"))

    assert status == "failed"
    assert reason.startswith("`polish` failed: The condition `steps.judge.output.score > 3` failed")


def test_loop_that_never_agrees(acme: World) -> None:
    status, reason = tell(acme, looping("steps.judge.output.accepted"))

    assert status == "failed"
    assert "`steps.judge.output.accepted` did not hold within 3 rounds" in reason


LONG_ANSWERS = {
    **simulated("${item}", text="x" * 1_000_000, max_output_tokens=250_000),
    "map": {"over": "${input.list}"},
}


def test_answers_of_fifty_megabytes(acme: World) -> None:
    status, reason = tell(acme, {"each": LONG_ANSWERS}, given={"list": [*range(50)]})

    assert status == "failed"
    assert reason == (
        "`each` failed: The items' outputs pass 10,000,000 bytes together; let them say less"
    )


def test_output_that_becomes_too_large(acme: World) -> None:
    both = {"agent": {"type": "aggregator"}, "needs": ["a", "b"]}

    status, reason = tell(
        acme,
        {"a": LONG_ANSWERS, "b": LONG_ANSWERS, "all": both},
        given={"list": [*range(6)]},
    )

    assert status == "failed"
    assert reason.startswith("`all` failed: the output has 12,0")
    assert "at most 5,000,000 may be; let it say less" in reason


@pytest.mark.parametrize("reference", ["again", "again@1", "again@9"])
def test_workflow_that_calls_itself(acme: World, reference: str) -> None:
    api, spec = acme.client(), {"muster": 1, "name": "again", "steps": {"a": echo(value=1)}}
    workflow = made(post(api, "workflows", spec))
    made(post(api, f"workflows/{workflow['id']}/publish"))
    calling = {"a": echo(value=1), "b": {"workflow": reference, "needs": ["a"]}}
    made(call(api, "PATCH", f"workflows/{workflow['id']}", {"steps": calling}))

    answer = post(api, f"workflows/{workflow['id']}/publish")

    assert problems(answer) == {("/steps/b/workflow", "calls_itself")}
    assert "put what repeats into a `loop`" in answer.json()["errors"][0]["message"]
