"""Calls of tools that a person has to agree to before they are made."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from agents_app.core.model import ToolCall

_DAY_SECONDS: Final = 24 * 3600
_MOST_SECONDS: Final = 366 * _DAY_SECONDS


class CallApproval(BaseModel):
    """Whose agreement each call of a tool needs, and what comes of it if nobody decides.

    `expires_seconds` is for how long they are asked; None: for as long as the run goes on. Then the
    call counts as rejected, or fails its step. Where it is not `required`, nobody is asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    required: bool = True
    roles: Annotated[
        tuple[Literal["owner", "admin", "editor"], ...], Field(min_length=1, max_length=3)
    ] = ("admin", "owner")
    exclude_requester: bool = False
    expires_seconds: Annotated[int, Field(ge=60, le=_MOST_SECONDS)] | None = _DAY_SECONDS
    on_expire: Literal["reject", "fail"] = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCall:
    """A call that is in the journal as held, and who has to agree to it.

    Rejected, it is told to its agent; `fails_step` says that there is none to be told.
    """

    turn: int
    call: ToolCall
    approval: CallApproval
    fails_step: bool = False
