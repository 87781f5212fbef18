import json
from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from orchestrator.markdown import to_html
from orchestrator.models import Attempt, LlmCall, Run
from tests.integration.orchestrator.test_waiting import hold
from tests.run_rows import make_run, published, wide_spec
from tests.world import World


def page(world: World, run_id: object, query: str = "") -> str:
    url = reverse("admin:orchestrator_run_change", args=[run_id])
    return world.browser().get(url + query).content.decode()


def asked_by(action: Callable[[], object]) -> int:
    action()
    with CaptureQueriesContext(connection) as queries:
        action()
    return len(queries)


@pytest.mark.parametrize(
    ("states", "status", "shown"),
    [
        ("pending", "pending", "Nothing has begun yet"),
        ("running", "running", "Still at work"),
        ("waiting", "running", "5 of 5 steps wait"),
        ("waiting", "running", "Waits for its next attempt, since"),
        ("completed", "completed", "5 of 5 steps completed"),
        ("failed", "failed", "The provider answered 503"),
        ("skipped", "failed", "skipped"),
        ("cancelled", "cancelled", "cancelled"),
        ("budget_exceeded", "budget_exceeded", "budget exceeded"),
        ("completed", "partially_completed", "partially completed"),
        ("ready", "paused", "paused"),
    ],
)
def test_every_state_has_its_page(acme: World, states: str, status: str, shown: str) -> None:
    reason = "5 of 5 steps completed" if status == "completed" else ""
    run = make_run(acme, published(acme), states, status=status, reason=reason)

    assert shown in page(acme, run.pk)


def test_chosen_step_is_shown_in_full(acme: World) -> None:
    run = make_run(acme, published(acme), "completed", status="completed")

    shown = page(acme, run.pk, "?step=facts")

    assert "Do facts: tides" in shown
    assert "Do review: tides" not in shown


def test_calls_of_tools_and_their_results_are_shown(acme: World) -> None:
    run = make_run(acme, published(acme), "completed", status="completed")
    call = {"id": "call_1", "name": "calculator", "arguments": {"expression": "6 * 7"}}
    result = {"call_id": "call_1", "name": "calculator", "content": "<b>no</b>", "is_error": True}
    with acme.scope():
        asked = LlmCall.objects.filter(run=run, agent_run__step="facts")
        turns = [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "user", "content": "", "tool_results": [result]},
        ]
        reply = {"text": "", "finish_reason": "tool_calls", "tool_calls": [call]}
        asked.update(request={"system": "", "messages": turns}, reply=reply)

    shown = page(acme, run.pk, "?step=facts")

    assert shown.count("calls calculator") == 2
    assert "6 * 7" in shown
    assert "calculator failed" in shown
    assert "&lt;b&gt;no&lt;/b&gt;" in shown


def test_unknown_step_is_no_error(acme: World) -> None:
    run = make_run(acme, published(acme), "completed", status="completed")

    assert "No such step" in page(acme, run.pk, "?step=%3Cscript%3E&p=999&status=nonsense")


def test_failed_step_is_shown_first(acme: World) -> None:
    states = dict.fromkeys(["outline", "facts", "draft", "review"], "completed")
    run = make_run(acme, published(acme), {**states, "quotes": "failed"}, status="failed")

    assert "Do quotes: tides" in page(acme, run.pk)


def test_huge_run_is_folded_and_paged(acme: World) -> None:
    run = make_run(acme, published(acme, wide_spec(4, 100)), "completed", status="completed")

    shown = page(acme, run.pk, "?p=2")

    assert "Level 4: 100 steps" in shown
    assert "51 to 100 of 400" in shown
    assert len(shown) < 300_000


def test_size_of_a_run_does_not_change_the_number_of_queries(acme: World) -> None:
    small = make_run(acme, published(acme, wide_spec(2, 2)), "completed", status="completed")
    large = make_run(acme, published(acme, wide_spec(5, 20)), "completed", status="completed")
    client = acme.browser()

    def look(run: object) -> Callable[[], object]:
        url = reverse("admin:orchestrator_run_change", args=[run.pk])
        return lambda: client.get(url)

    assert asked_by(look(large)) == asked_by(look(small))


def test_length_of_the_list_does_not_change_the_number_of_queries(acme: World) -> None:
    client, version = acme.browser(), published(acme)
    make_run(acme, version, "running", status="running")
    url = reverse("admin:orchestrator_run_changelist")
    one = asked_by(lambda: client.get(url))
    for _ in range(5):
        make_run(acme, version, "running", status="running")

    assert asked_by(lambda: client.get(url)) == one


def test_list_tells_why_each_run_is_as_it_is(acme: World) -> None:
    version = published(acme)
    make_run(acme, version, "waiting", status="running")
    make_run(acme, version, "failed", status="failed", reason="`facts` failed: " + "x" * 300)

    shown = acme.browser().get(reverse("admin:orchestrator_run_changelist")).content.decode()

    assert "5 of 5 steps wait" in shown
    assert "<code>facts</code> failed: xxx" in shown
    assert "x\u2026</span>" in shown


def test_large_counts_have_their_separators(acme: World) -> None:
    run = make_run(acme, published(acme), "completed", status="completed")
    with acme.scope():
        LlmCall.objects.filter(run=run).update(input_tokens=1_234_567)

    assert "<dt>Tokens in</dt><dd>6,172,835</dd>" in page(acme, run.pk)
    assert "1,234,567 in, 187 out" in page(acme, run.pk)


def test_output_of_texts_is_shown_text_by_text(acme: World) -> None:
    run = make_run(acme, published(acme), "completed", status="completed")
    with acme.scope():
        Run.objects.filter(pk=run.pk).update(output={"draft": "# High\nWater", "<b>": "noon"})

    shown = page(acme, run.pk)

    assert "<h3>draft</h3>" in shown
    assert "<h1>High</h1>" in shown
    assert "<h3>&lt;b&gt;</h3>" in shown


def test_output_comes_as_json_and_as_markdown(acme: World) -> None:
    run = make_run(acme, published(acme), "completed", status="completed")
    url = reverse("admin:orchestrator_run_output", args=[run.pk])
    client = acme.browser()

    as_json, as_markdown = client.get(url), client.get(url + "?md")

    assert json.loads(as_json.content) == as_markdown.content.decode() == run.output
    assert "attachment" in as_json["Content-Disposition"]


def test_moving_parts_come_alone(acme: World) -> None:
    run = make_run(acme, published(acme), "running", status="running")

    url = reverse("admin:orchestrator_run_live", args=[run.pk])
    part = acme.browser().get(url).content.decode()

    assert 'data-is-live="yes"' in part
    assert "<html" not in part


def test_viewer_sees_runs_and_no_way_to_start_one(live_db: None) -> None:
    from tests.factories import make_tenant

    world = make_tenant("acme", role="viewer")
    workflow = published(world).workflow
    url = reverse("admin:orchestrator_workflow_run", args=[workflow.pk])

    assert world.browser().get(url).status_code == 403


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "![x](https://spy.example/pixel.png)",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        '<a href="x" style="position:fixed">x</a>',
        "<style>*{display:none}</style>",
        "<svg onload=alert(1)>",
        "`" * 5000,
    ],
)
def test_what_a_model_says_cannot_act(hostile: str) -> None:
    html = to_html(hostile).lower()

    for forbidden in ("<script", "<img", "<style", "<svg", 'href="javascript', 'href="data'):
        assert forbidden not in html
    assert "<a" not in html or "style=" not in html.partition("<a")[2].partition(">")[0]


def test_hostile_output_is_shown_as_text(acme: World) -> None:
    run = make_run(acme, published(acme), "completed", status="completed")
    with acme.scope():
        run.output = "<script>alert('run')</script>"
        run.agent_runs.update(output={"a": "</pre><script>alert('json')</script>"})
        run.save()

    shown = page(acme, run.pk)

    assert "<script>alert(" not in shown


def test_bar_of_one_that_gave_its_place_back_shows_that_it_waited(acme: World) -> None:
    run = make_run(acme, published(acme), "completed", status="completed")
    with acme.scope():
        one = run.agent_runs.get(step="facts")
        times = {"started_at": one.started_at, "finished_at": one.finished_at}
        Attempt.objects.create(agent_run=one, number=2, worker="w", outcome="waited", **times)

    shown = page(acme, run.pk)

    assert 'class="m-fill-waiting"' in shown
    assert "m-fill-waited" not in shown


def test_reason_of_the_run_is_not_said_again_at_each_step(acme: World) -> None:
    run = make_run(acme, published(acme), "cancelled", status="cancelled", reason="Why not")
    with acme.scope():
        run.agent_runs.update(status_reason="Why not")

    assert page(acme, run.pk).partition('id="timeline"')[2].count("Why not") == 0


def test_run_whose_steps_wait_says_for_what(acme: World) -> None:
    run = make_run(acme, published(acme), "pending", status="running")
    hold(acme, run, "facts", reason="budget", gate='the budget "November" (tenant)')

    shown = page(acme, run.pk)

    assert "1 of 5 steps waits for the budget &quot;November&quot; (tenant)" in shown
    assert "/admin/waiting/?reason=budget&amp;name=the%20budget" in shown
