"""What the platform's MCP server does: each published workflow is a tool that runs it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import anyio
import mcp_types as types
from django.conf import settings
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from orchestrator.api.events_feed import Feed
from orchestrator.api.events_stream import App, Scope
from orchestrator.api.mcp_site import TENANT, Answer, asked
from orchestrator.core.state import TERMINAL_RUN, RunStatus
from orchestrator.selectors.events import Place

ROOT: Final = "/api/v1/"
GET_RUN: Final = "get_run"
_KEY_HEADER: Final = b"idempotency-key"
# In the `_meta` of a call; the header of the same name works too.
IDEMPOTENCY: Final = "muster/idempotency-key"
MOST_OUTPUT_BYTES: Final = 256 * 1024
# So often somebody who waits hears that there is still something to wait for.
_BEAT_SECONDS: Final = 10.0
_OVER: Final = frozenset(status.value for status in TERMINAL_RUN)
_GOOD: Final = frozenset({RunStatus.COMPLETED.value, RunStatus.PARTIALLY_COMPLETED.value})
_ENDED_STEP: Final = b"\nevent: agent.completed\n"
_ABOUT: Final = (
    "Each tool runs a workflow. One that takes longer answers with the id of its run; ask "
    f"{GET_RUN} for it until its status is one of {', '.join(sorted(_OVER))}."
)

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

Context = ServerRequestContext[Any, Any]


def manager(*, site: App, feed: Feed) -> StreamableHTTPSessionManager:
    """Stateless, so that any process answers any message."""
    tools = WorkflowTools(site=site, feed=feed)
    server: Server[Any] = Server(
        "muster",
        title="Muster",
        instructions=_ABOUT,
        on_list_tools=tools.listed,
        on_call_tool=tools.called,
    )
    return StreamableHTTPSessionManager(server, stateless=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowTools:
    site: App
    feed: Feed

    async def listed(
        self, context: Context, _: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        answer = await self._ask(context, "GET", "workflow-tools")
        if answer.status != 200:
            raise ValueError(_problem(answer))
        offered = json.loads(answer.body)["results"]
        return types.ListToolsResult(tools=[_GET_RUN, *map(_tool, offered)])

    async def called(
        self, context: Context, asked_for: types.CallToolRequestParams
    ) -> types.CallToolResult:
        arguments = asked_for.arguments or {}
        if asked_for.name == GET_RUN:
            return await self._looked_at(context, arguments)
        if not _NAME.fullmatch(asked_for.name):
            return _said("There is no such tool.")
        found = await self._ask(context, "GET", f"workflow-tools/{asked_for.name}")
        if found.status != 200:
            return _failed(f"There is no tool {asked_for.name!r}.", found)
        tool = json.loads(found.body)
        body = {"workflow": tool["workflow"], "version": tool["version"], "input": arguments}
        started = await self._ask(
            context, "POST", "runs", body=body, headers=_idempotency(context, asked_for)
        )
        if started.status != 202:
            return _failed("The run was not started.", started)
        run_id = json.loads(started.body)["id"]
        await self._wait(context, run_id, seconds=settings.MUSTER_MCP_WAIT_SECONDS)
        return await self._told(context, run_id)

    async def _looked_at(
        self, context: Context, arguments: Mapping[str, Any]
    ) -> types.CallToolResult:
        try:
            run_id = str(UUID(arguments["run_id"]))
            wait = min(float(arguments.get("wait_seconds", 0)), settings.MUSTER_MCP_WAIT_SECONDS)
        except (KeyError, ValueError, TypeError, AttributeError):
            return _said("Give a run_id, and wait_seconds as a number if you want to wait.")
        seen = await self._ask(context, "GET", f"runs/{run_id}")
        if seen.status == 200 and wait > 0:
            await self._wait(context, run_id, seconds=wait)
        return await self._told(context, run_id)

    async def _wait(self, context: Context, run_id: str, *, seconds: float) -> None:
        """Until the run has ended or the time is over, with word of how it goes on."""
        place: Place | None = Place(tenant_id=_scope(context)[TENANT], run_id=UUID(run_id), after=0)
        beats = steps = 0
        with anyio.move_on_after(seconds):
            async with self.feed.listening(UUID(run_id)):
                while place:
                    portion = await self.feed.portion(place, within=_BEAT_SECONDS)
                    if portion:
                        place = portion.next
                        steps += portion.body.count(_ENDED_STEP)
                    beats += 1
                    told = f"{steps} steps of run {run_id} are done"
                    await context.session.report_progress(beats, message=told)

    async def _told(self, context: Context, run_id: str) -> types.CallToolResult:
        answer = await self._ask(context, "GET", f"runs/{run_id}")
        if answer.status != 200:
            return _failed(f"There is no run {run_id}.", answer)
        run = json.loads(answer.body)
        link = run["links"]["self"]
        facts: dict[str, Any] = {
            "run_id": run_id,
            "status": run["status"],
            "status_reason": run["status_reason"],
            "cost_usd": run["cost_usd"],
            "link": link,
        }
        if run["status"] not in _OVER:
            facts["next"] = f"It goes on. Ask {GET_RUN} with this run_id."
        elif len(json.dumps(run["output"])) > MOST_OUTPUT_BYTES:
            facts["next"] = f"The output is large: get it from {run['links']['output']}."
        else:
            facts["output"] = run["output"]
        is_error = run["status"] in _OVER - _GOOD
        text = json.dumps(facts, ensure_ascii=False)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text)],
            structured_content=facts,
            is_error=is_error,
        )

    async def _ask(
        self,
        context: Context,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: Mapping[bytes, bytes] | None = None,
    ) -> Answer:
        sent = b"" if body is None else json.dumps(body).encode()
        return await asked(
            self.site, _scope(context), method=method, path=ROOT + path, body=sent, headers=headers
        )


_GET_RUN: Final = types.Tool(
    name=GET_RUN,
    title="Look at a run",
    description="Tells how a run stands, and its output once it has ended.",
    input_schema={
        "type": "object",
        "required": ["run_id"],
        "properties": {
            "run_id": {"type": "string", "description": "As the tool that started it told."},
            "wait_seconds": {
                "type": "number",
                "minimum": 0,
                "description": "Wait for its end for so long; not at all unless told.",
            },
        },
    },
    annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
)


def _tool(offered: Mapping[str, Any]) -> types.Tool:
    return types.Tool(
        name=offered["name"],
        description=offered["description"],
        input_schema=offered["input_schema"],
        annotations=types.ToolAnnotations(read_only_hint=False, idempotent_hint=False),
    )


def _idempotency(
    context: Context, asked_for: types.CallToolRequestParams
) -> Mapping[bytes, bytes] | None:
    """The key by which the same call starts no second run, if the caller gives one."""
    meta: Mapping[str, Any] = asked_for.meta or {}
    if IDEMPOTENCY in meta:
        return {_KEY_HEADER: str(meta[IDEMPOTENCY]).encode()}
    sent = dict(_scope(context)["headers"]).get(_KEY_HEADER)
    return {_KEY_HEADER: sent} if sent else None


def _scope(context: Context) -> Scope:
    """The request that brought the message."""
    scope: Scope = context.request.scope  # type: ignore[union-attr]  # there is one over HTTP
    return scope


def _failed(told: str, answer: Answer) -> types.CallToolResult:
    return _said(f"{told} {_problem(answer)}")


def _said(text: str) -> types.CallToolResult:
    content = types.TextContent(type="text", text=text)
    return types.CallToolResult(content=[content], is_error=True)


def _problem(answer: Answer) -> str:
    """What the site's refusal says, place by place."""
    try:
        problem = json.loads(answer.body)
        places = [f"{each['loc']}: {each['message']}" for each in problem.get("errors", ())]
        return "; ".join([str(problem["detail"]), *places])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"The platform answered with {answer.status}."
