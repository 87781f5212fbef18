"""An MCP server made with the official library, for good and for ill: a process of its own.

    python -m tests.mcp_program --http PORT | --stdio [--token TOKEN] [--tools FILE] [--clingy]

A clingy one never lets a session end. `FILE` may hold a JSON list of tools to offer besides, as
`{name, description?, schema?}`.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server

_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
_ADD = {
    "type": "object",
    "required": ["a", "b"],
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "additionalProperties": False,
}
_NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
FLOOD_BYTES = 100 * 1024 * 1024


def _tool(name: str, schema: dict[str, Any], **hints: bool) -> types.Tool:
    return types.Tool(
        name=name,
        description=f"Does what {name} says.",
        input_schema=schema,
        annotations=types.ToolAnnotations(**hints) if hints else None,
    )


_TOOLS = [
    _tool("add", _ADD, read_only_hint=True),
    _tool("refuse", _TEXT),
    _tool("die", _NOTHING),
    _tool("flood", _NOTHING, read_only_hint=True),
    _tool("hang", _NOTHING, read_only_hint=True),
    _tool("environment", _NOTHING, read_only_hint=True),
]


def _said(text: str, *, structured: Any = None, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)],
        structured_content=structured,
        is_error=is_error,
    )


async def _add(params: types.CallToolRequestParams) -> types.CallToolResult:
    given = params.arguments or {}
    total = given["a"] + given["b"]
    return _said(str(total), structured={"sum": total})


async def _refuse(params: types.CallToolRequestParams) -> types.CallToolResult:
    return _said(f"I do not like {(params.arguments or {})['text']!r}", is_error=True)


async def _die(params: types.CallToolRequestParams) -> types.CallToolResult:
    os._exit(1)


async def _flood(params: types.CallToolRequestParams) -> types.CallToolResult:
    return _said("x" * FLOOD_BYTES)


async def _hang(params: types.CallToolRequestParams) -> types.CallToolResult:
    await asyncio.sleep(3600)
    return _said("at last")


async def _environment(params: types.CallToolRequestParams) -> types.CallToolResult:
    return _said(json.dumps(sorted(os.environ)))


async def _named(params: types.CallToolRequestParams) -> types.CallToolResult:
    return _said(params.name)


_DEEDS = {
    "add": _add,
    "refuse": _refuse,
    "die": _die,
    "flood": _flood,
    "hang": _hang,
    "environment": _environment,
}


def _server(extra: Path | None) -> Server[Any]:
    async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
        more = json.loads(extra.read_text()) if extra and extra.exists() else []
        offered = [
            types.Tool(
                name=given["name"],
                description=given.get("description", ""),
                input_schema=given.get("schema", _NOTHING),
            )
            for given in more
        ]
        return types.ListToolsResult(tools=[*_TOOLS, *offered])

    async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        return await _DEEDS.get(params.name, _named)(params)

    return Server("test-server", on_list_tools=list_tools, on_call_tool=call_tool)


def _guarded(app: Any, token: str) -> Any:
    """Lets in only who bears the token."""

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and headers.get(b"authorization") != f"Bearer {token}".encode():
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await app(scope, receive, send)

    return guarded if token else app


def _clingy(app: Any) -> Any:
    async def clingy(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("method") == "DELETE":
            await asyncio.sleep(3600)
        await app(scope, receive, send)

    return clingy


async def _over_pipes(server: Server[Any]) -> None:
    async with stdio_server() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", type=int)
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--token", default="")
    parser.add_argument("--tools", type=Path)
    parser.add_argument("--clingy", action="store_true")
    given = parser.parse_args()
    server = _server(given.tools)
    if given.stdio:
        asyncio.run(_over_pipes(server))
        return
    app = _guarded(server.streamable_http_app(), given.token)
    app = _clingy(app) if given.clingy else app
    uvicorn.run(app, host="127.0.0.1", port=given.http, log_level="error")


if __name__ == "__main__":
    main()
