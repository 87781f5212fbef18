"""What is wrong with how an agent may hand out work, where nobody has checked its settings yet."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from agents_app.core.agent import AgentConfig, Problem
from costs.core.money import nano_from_text


def _amount(text: str) -> str:
    if text:
        nano_from_text(text)
    return text


_Usd = Annotated[str, AfterValidator(_amount)]


class _Choice(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    provider: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(min_length=1)]


class _Settings(BaseModel):
    """The fields of AgentConfig of these names."""

    model_config = ConfigDict(from_attributes=True, strict=True)

    delegates: Sequence[str]
    workflows: Sequence[str]
    delegate_cost_usd: _Usd
    max_tasks: Annotated[int, Field(ge=1, le=200)]
    approve: bool
    approve_above_usd: _Usd
    role_models: dict[Literal["orchestrator", "planner", "executor", "reviewer"], _Choice]
    report: bool


def delegation_problems(config: AgentConfig) -> list[Problem]:
    try:
        _Settings.model_validate(config)
    except ValidationError as error:
        return [
            Problem(".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, "))
            for each in error.errors(include_url=False)
        ]
    return []
