"""What can go wrong while an agent works."""

from enum import StrEnum

from tenants.kernel.errors import PlatformError


class AgentsError(PlatformError):
    code = "agents_error"


class ProviderErrorKind(StrEnum):
    TIMEOUT = "timeout"  # our deadline passed, or the provider says that its own did
    CONNECTION = "connection"  # no connection, or it broke
    RATE_LIMITED = "rate_limited"  # too many requests or tokens for now
    OVERLOADED = "overloaded"  # the provider has no capacity for anyone
    SERVER = "server"  # the provider failed
    AUTH = "auth"  # the key is missing, wrong or revoked
    PERMISSION = "permission"  # the key is right but may not do this
    NOT_FOUND = "not_found"  # no such model or address
    INVALID_REQUEST = "invalid_request"  # the provider, or our own check, refuses the request
    CONTEXT_TOO_LONG = "context_too_long"  # more input than the model takes
    CONTENT_REFUSED = "content_refused"  # the provider or the model refuses the content
    QUOTA_EXHAUSTED = "quota_exhausted"  # the account has no credit left
    PROTOCOL = "protocol"  # the answer is not in the form that was agreed
    NOT_CONFIGURED = "not_configured"  # no address or key for this provider


_RETRYABLE = frozenset(
    {
        ProviderErrorKind.TIMEOUT,
        ProviderErrorKind.CONNECTION,
        ProviderErrorKind.RATE_LIMITED,
        ProviderErrorKind.OVERLOADED,
        ProviderErrorKind.SERVER,
    }
)


class ProviderError(AgentsError):
    """A call to a provider failed.

    `in_doubt` is true where the provider may have done the work, and charge for it, although
    no answer arrived.
    """

    code = "provider_error"

    def __init__(
        self,
        kind: ProviderErrorKind,
        detail: str,
        provider: str = "",
        status: int | None = None,
        retry_after_seconds: float | None = None,
        in_doubt: bool = False,
    ) -> None:
        super().__init__(kind, detail, provider, status, retry_after_seconds, in_doubt)
        self.kind = kind
        self.detail = detail
        self.provider = provider
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.in_doubt = in_doubt

    @property
    def retryable(self) -> bool:  # type: ignore[override]  # the only error where it varies
        return self.kind in _RETRYABLE

    def __str__(self) -> str:
        label = self.kind.replace("_", " ")
        status = f" ({self.status})" if self.status else ""
        return f"{self.provider or 'provider'}: {label}{status}: {self.detail}"


class _RefusedError(AgentsError):
    """`reason` is a stable word, for programs; `detail` tells people what to do instead."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class _ToolError(AgentsError):
    def __init__(self, tool: str, detail: str) -> None:
        super().__init__(tool, detail)
        self.tool = tool
        self.detail = detail

    def __str__(self) -> str:
        return f"tool {self.tool!r}: {self.detail}"


class ToolFailedError(_ToolError):
    """A tool refused its arguments or broke; the message is fit to be shown to an agent."""

    code = "tool_failed"


class ToolTimeoutError(ToolFailedError):
    """A tool gave nothing within its time. It may have done its work all the same."""

    code = "tool_timeout"

    def __init__(self, tool: str, seconds: float, is_repeatable: bool) -> None:
        told = f"no result within {seconds:.3g} s; it may have done its work all the same"
        super().__init__(tool, told)
        self.args = tool, seconds, is_repeatable
        self.is_repeatable = is_repeatable

    @property
    def retryable(self) -> bool:  # type: ignore[override]  # some must not be called twice
        return self.is_repeatable


class ToolNotAllowedError(_ToolError):
    """There is no such tool for this tenant or agent; `detail` says why, and what helps."""

    code = "tool_not_allowed"


class ToolSecretError(AgentsError):
    """A credential that a tool is to use cannot be had."""

    code = "tool_secret_missing"

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(name, detail)
        self.name = name
        self.detail = detail

    def __str__(self) -> str:
        return f"credential {self.name!r}: {self.detail}"


class MessageRefusedError(_RefusedError):
    """A message was not taken; `reason` is a stable word, such as receiver_full."""

    code = "message_refused"


class ContextRefusedError(_RefusedError):
    """A value was not taken; `reason` is a stable word, such as context_full."""

    code = "context_refused"


class ContextConflictError(AgentsError):
    """Somebody else has written the value since the version that was expected."""

    code = "context_conflict"

    def __init__(self, key: str, expected: int, version: int) -> None:
        super().__init__(key, expected, version)
        self.key = key
        self.expected = expected
        self.version = version

    def __str__(self) -> str:
        return (
            f"{self.key!r} is at version {self.version}, not at {self.expected}: read it again, "
            "then write"
        )


class TodoRefusedError(_RefusedError):
    """A todo could not be written or read; `reason` is a stable word, such as no_todo."""

    code = "todo_refused"


class McpServerError(AgentsError):
    """An MCP server did not do as it was asked; `in_doubt` if it may have done the work."""

    code = "mcp_server_failed"

    def __init__(self, detail: str, in_doubt: bool = False) -> None:
        super().__init__(detail, in_doubt)
        self.detail = detail
        self.in_doubt = in_doubt

    def __str__(self) -> str:
        return self.detail


class AgentLimit(StrEnum):
    TURNS = "turn_limit"  # it has called its model as often as it may
    TOKENS = "token_limit"  # it has used the tokens that it may
    TIME = "time_limit"  # its step's time is over
    REPEATS = "repeated_calls"  # it calls the same tools with the same arguments over and over
    FAILURES = "tool_failures"  # in too many turns in a row all its calls failed


class AgentLimitError(AgentsError):
    """An agent that works in turns has come to one of its limits; `code` says which."""

    def __init__(self, limit: AgentLimit, detail: str) -> None:
        super().__init__(limit, detail)
        self.limit = limit
        self.detail = detail

    @property
    def code(self) -> str:  # type: ignore[override]  # one error, a code for each limit
        return self.limit.value

    @property
    def retryable(self) -> bool:  # type: ignore[override]  # only more time may help
        return self.limit is AgentLimit.TIME

    def __str__(self) -> str:
        return self.detail


class DelegationRefusedError(AgentsError):
    """The steps that an agent wants to delegate cannot be run; the message is for it to read."""

    code = "delegation_refused"


class PlanRejectedError(AgentsError):
    """A person did not want the plan to be carried out."""

    code = "plan_rejected"


class AgentInvalidError(AgentsError):
    """An agent's configuration or its inputs do not fit its type."""

    code = "agent_invalid"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class AgentNotAllowedError(AgentsError):
    """The tenant may not use an agent any more that a published version names."""

    code = "agent_not_allowed"

    def __init__(self, agent: str) -> None:
        super().__init__(agent)
        self.agent = agent

    def __str__(self) -> str:
        return f"the agent {self.agent!r} is not allowed for this tenant"


class CustomAgentError(AgentsError):
    """An agent of the operator's own broke, or gave what nobody can keep."""

    code = "custom_agent_failed"

    def __init__(self, agent: str, detail: str) -> None:
        super().__init__(agent, detail)
        self.agent = agent
        self.detail = detail

    def __str__(self) -> str:
        return f"custom agent {self.agent!r}: {self.detail}"


class UnusableSchemaError(_RefusedError):
    """A JSON Schema cannot be applied: its fault, not that of the value.

    `reason` is a stable word: unresolvable_reference, too_deep, too_large, too_costly or
    unsupported.
    """

    code = "unusable_schema"


class OutputInvalidError(AgentsError):
    """A model's answer is not what the output schema asks for.

    `path` is a JSON pointer into the answer; it is empty for the answer as a whole.
    """

    code = "output_invalid"

    def __init__(self, detail: str, path: str = "") -> None:
        super().__init__(detail, path)
        self.detail = detail
        self.path = path

    def __str__(self) -> str:
        return f"output{f' at {self.path}' if self.path else ''}: {self.detail}"


class OutputTooLargeError(AgentsError):
    """What a step gives is too much to be kept. Sizes are in bytes of JSON."""

    code = "output_too_large"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"the output has {self.size:,} bytes, and at most {self.limit:,} may be; "
            "let it say less, or combine fewer steps"
        )


class MemoryRefusedError(AgentsError):
    """Something cannot be remembered, or not so; fit to be shown to an agent."""

    code = "memory_refused"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class MemoryConflictError(MemoryRefusedError):
    """Somebody else has changed the entry; 0 stands for one that is not there."""

    code = "memory_conflict"

    def __init__(self, key: str, version: int) -> None:
        super().__init__(f"{key!r} is at version {version} now; read it again")
        self.args = (key, version)
        self.key = key
        self.version = version

    def __str__(self) -> str:
        return self.detail
