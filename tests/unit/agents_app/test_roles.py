import pytest

from agents_app.core.roles import Role, detect


@pytest.mark.parametrize(
    ("task", "role"),
    [
        ("Outline a strategy for the launch", Role.PLANNER),
        ("Write a poem", Role.EXECUTOR),
        ("VALIDATE the totals and check the dates", Role.REVIEWER),
        ("Review the plan", Role.REVIEWER),
        ("Write a plan", Role.EXECUTOR),
        ("Plan, then plan, then plan; write and create", Role.EXECUTOR),
        ("Contest the planet's latest designer", Role.EXECUTOR),
        ("Say hello", Role.EXECUTOR),
        ("", Role.EXECUTOR),
        ("orchestrator", Role.EXECUTOR),
    ],
)
def test_role_follows_the_words_of_the_task(task, role):
    assert detect(task) is role
