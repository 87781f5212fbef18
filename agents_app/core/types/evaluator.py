"""Scores what others have done, and accepts it or sends it back."""

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from agents_app.core import values
from agents_app.core.agent import AgentConfig, Outcome, Ports, Problem, tool_problems
from agents_app.core.model import JsonSchema
from agents_app.core.tools import Toolbox
from agents_app.core.types.judging import answer_of, system_text
from agents_app.core.types.prompt import model_problems

_SCORE: Final = {"type": "number", "minimum": 0, "maximum": 1}
_FEEDBACK: Final = {"type": "string"}
_ACCEPTED: Final = {"type": "boolean"}
OUTPUT_SCHEMA: Final[JsonSchema] = {
    "type": "object",
    "required": ["accepted", "score", "feedback"],
    "properties": {"accepted": _ACCEPTED, "score": _SCORE, "feedback": _FEEDBACK},
    "additionalProperties": False,
}
_RULES: Final = (
    "You judge work. Say in `feedback` what is good and what has to be done better, so that "
    "whoever did it can improve it. Give a `score` from 0 (useless) to 1 (as good as it can be)."
)
_ACCEPT: Final = "Set `accepted` to true if it is good enough as it is, else to false."


class EvaluatorAgent:
    """With a threshold the score decides what is accepted, else the model does."""

    name = "evaluator"
    description = "Asks a model to score what came before, and accepts it or sends it back."
    calls_model = True

    def problems(self, config: AgentConfig, tools: Toolbox) -> list[Problem]:
        found = model_problems(config) + tool_problems(config)
        if config.threshold is not None and not 0 <= config.threshold <= 1:
            found.append(Problem("threshold", "must be a number from 0 to 1"))
        return found

    def run(self, config: AgentConfig, *, inputs: Mapping[str, JsonValue], ports: Ports) -> Outcome:
        said = answer_of(
            config,
            system=judge_system(config),
            schema=judge_schema(config),
            inputs=inputs,
            ports=ports,
        )
        verdict = _verdict(said.output, threshold=config.threshold)
        return Outcome(output=verdict, text=values.dump(verdict))


def judge_system(config: AgentConfig) -> str:
    """What an evaluator's model is told beside the work."""
    criteria = f"Judge by these criteria:\n{config.criteria}" if config.criteria else ""
    return system_text(config, _RULES, _ACCEPT if config.threshold is None else "", criteria)


def judge_schema(config: AgentConfig) -> JsonSchema:
    """The form of its model's answer; the reasons come first, so that the score follows them."""
    asked = {"feedback": _FEEDBACK, "score": _SCORE}
    if config.threshold is None:
        asked["accepted"] = _ACCEPTED
    return {
        "type": "object",
        "required": list(asked),
        "properties": asked,
        "additionalProperties": False,
    }


def _verdict(said: JsonValue, *, threshold: float | None) -> JsonValue:
    answer = said if isinstance(said, dict) else {}
    score = answer["score"]
    accepted = answer.get("accepted")
    if threshold is not None and isinstance(score, int | float):
        accepted = score >= threshold
    return {"accepted": accepted, "score": score, "feedback": answer["feedback"]}
