"""Tools are waited for no longer than they may take, and ended where that is possible."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agents_app import tool_threads
from agents_app.core.agent import AgentConfig, Ports
from agents_app.core.cancellation import Cancellation, current_cancellation
from agents_app.core.errors import ToolFailedError, ToolTimeoutError
from agents_app.core.hands import DueCall
from agents_app.core.model import ToolCall
from agents_app.core.tools import Tool, Toolbox, tool
from agents_app.runtime import run_agent
from agents_app.tool_threads import ToolThreads, hung_tools
from tenants.kernel.errors import PlatformError
from tests.eventually import eventually


class NotWantedError(Exception):
    pass


@tool()
async def double(number: int) -> int:
    """Double a number."""
    await asyncio.sleep(0)
    return 2 * number


class Endless:
    """An async tool that never ends by itself, and tells how it was ended."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Event(), threading.Event()

    def tool(self, *, seconds: float = 60, is_repeatable: bool = True) -> Tool:
        @tool(name="endless", timeout_seconds=seconds, is_repeatable=is_repeatable)
        async def endless() -> str:
            """Never end."""
            self.began.set()
            try:
                await asyncio.sleep(600)
            finally:
                self.ended.set()
            return "done"

        return endless


def due(each: Tool, **arguments: Any) -> DueCall:
    call = ToolCall(id=each.name, name=each.name, arguments=arguments)
    return DueCall(call=call, tool=each, context=None)


def step(each: Tool, *, seconds: float = 60, check: Callable[[], None] = lambda: None) -> Any:
    config = AgentConfig(type="tool", tool=each.name, deadline_seconds=seconds)
    ports = Ports(model=None, tools=Toolbox([each]), hands=ToolThreads(check))  # type: ignore[arg-type]
    return run_agent(config, inputs={}, ports=ports).output


def test_async_tool_is_called_like_any_other() -> None:
    assert double.call({"number": 21}) == 42
    assert [
        end.output for _, end in ToolThreads().ends_of([due(double, number=3)], within_seconds=9)
    ] == [6]


def test_arguments_of_an_async_tool_are_checked() -> None:
    with pytest.raises(ToolFailedError, match="number"):
        double.call({"number": "x"})


def test_async_tool_that_breaks_tells_why() -> None:
    @tool()
    async def broken() -> str:
        """Break."""
        raise TimeoutError("the other side")

    with pytest.raises(ToolFailedError, match="TimeoutError: the other side"):
        broken.call({})


def test_async_tool_is_ended_when_its_time_is_over() -> None:
    endless = Endless()

    with pytest.raises(ToolTimeoutError, match=r"within 0\.05 s"):
        endless.tool(seconds=0.05).call({})

    assert endless.ended.is_set()


def test_async_tool_is_ended_when_the_time_of_its_step_is_over() -> None:
    endless = Endless()

    with pytest.raises(ToolTimeoutError, match=r"within 0\.1 s"):
        step(endless.tool(), seconds=0.1)

    assert endless.ended.wait(10)


def test_tool_step_is_over_after_the_time_of_its_tool() -> None:
    held = threading.Event()

    @tool(timeout_seconds=0.05)
    def hold() -> str:
        """Hold."""
        held.wait(20)
        return "late"

    with pytest.raises(ToolTimeoutError) as caught:
        step(hold)

    held.set()
    assert (caught.value.code, caught.value.retryable) == ("tool_timeout", True)


def test_tool_that_must_not_be_repeated_is_not_tried_again_after_its_time() -> None:
    with pytest.raises(ToolTimeoutError) as caught:
        step(Endless().tool(seconds=0.05, is_repeatable=False))

    assert not caught.value.retryable


class AttemptOverError(PlatformError):
    code = "attempt_over"


def test_what_a_port_raises_ends_the_attempt_once_the_other_calls_have_ended() -> None:
    raised, has_raised = AttemptOverError(), threading.Event()

    @tool()
    def write() -> str:
        """Write by a port."""
        has_raised.set()
        raise raised

    @tool()
    def read() -> str:
        """Read for a while."""
        assert has_raised.wait(10)
        return "read"

    ends = ToolThreads().ends_of([due(write), due(read)], within_seconds=60)

    assert next(ends)[1].output == "read"
    with pytest.raises(AttemptOverError) as caught:
        next(ends)
    assert caught.value is raised


def test_what_its_attempt_ends_for_cuts_off_calls_that_a_port_has_not() -> None:
    endless, has_raised = Endless(), threading.Event()

    @tool()
    def write() -> str:
        """Write by a port."""
        assert endless.began.wait(10)
        has_raised.set()
        raise AttemptOverError

    def check() -> None:
        if has_raised.is_set():
            raise AttemptOverError

    with pytest.raises(AttemptOverError):
        list(ToolThreads(check).ends_of([due(endless.tool()), due(write)], within_seconds=60))

    assert endless.ended.wait(10)


def test_thread_that_ends_itself_is_a_failure_of_its_tool() -> None:
    @tool()
    def leave() -> str:
        """Leave."""
        raise SystemExit

    with pytest.raises(ToolFailedError, match="SystemExit"):
        step(leave)


def test_tools_are_given_up_once_nobody_waits() -> None:
    endless = Endless()

    def check() -> None:
        if endless.began.is_set():
            raise NotWantedError

    with pytest.raises(NotWantedError):
        step(endless.tool(), check=check)

    assert endless.ended.wait(10)


def test_plain_tool_can_hear_that_nobody_waits() -> None:
    heard: list[bool] = []

    @tool(timeout_seconds=0.05)
    def listen() -> str:
        """Listen."""
        over = threading.Event()
        current_cancellation().then(over.set)
        heard.append(over.wait(10))
        return "over"

    with pytest.raises(ToolTimeoutError):
        step(listen)

    eventually(lambda: heard == [True])


def test_threads_that_go_on_are_counted_until_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_threads, "_GRACE_SECONDS", 0.0)
    before, held = hung_tools(), threading.Event()

    @tool(timeout_seconds=0.05)
    def hold() -> str:
        """Hold."""
        held.wait(20)
        return "late"

    with pytest.raises(ToolTimeoutError):
        step(hold)

    eventually(lambda: hung_tools() == before + 1)
    held.set()
    eventually(lambda: hung_tools() == before)


def test_cancellation_tells_those_who_come_late_at_once() -> None:
    cancellation, told = Cancellation(), []
    cancellation.then(lambda: told.append(1))
    cancellation.set()
    cancellation.then(lambda: told.append(2))
    cancellation.set()

    assert told == [1, 2]


class MustWaitError(PlatformError):
    pass


def test_what_ends_the_attempt_is_raised_once_the_others_have_ended() -> None:
    @tool()
    def give_way() -> None:
        """Have the attempt end."""
        raise MustWaitError

    heard: list[str] = []
    ends = ToolThreads().ends_of([due(give_way), due(double, number=1)], within_seconds=20)
    with pytest.raises(MustWaitError):
        heard.extend(call_id for call_id, _ in ends)

    assert heard == ["double"]
