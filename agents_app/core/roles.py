"""What part an agent plays, said or guessed from its task.

The role with the most different words of its own in the task wins. On a tie the role whose
word stands first wins, because a task opens with what it asks for ("Review the plan" is a
review). Without any such word the agent is an executor. `orchestrator` is never guessed. An
evaluator is a reviewer, whatever it is told.
"""

import re
from enum import StrEnum


class Role(StrEnum):
    ORCHESTRATOR = "orchestrator"  # steers other agents
    PLANNER = "planner"  # decides what is to be done
    EXECUTOR = "executor"  # does it
    REVIEWER = "reviewer"  # judges what was done


WORDS: dict[Role, tuple[str, ...]] = {
    Role.PLANNER: ("plan", "design", "outline", "structure", "strategy"),
    Role.EXECUTOR: ("execute", "implement", "generate", "write", "create", "produce"),
    Role.REVIEWER: ("review", "check", "analyze", "evaluate", "validate", "test"),
}
NO_MATCH = Role.EXECUTOR
# What its type says of an agent goes before the words of its task.
OF_TYPE: dict[str, Role] = {"evaluator": Role.REVIEWER}

_ROLE_OF = {word: role for role, words in WORDS.items() for word in words}
_ANY_WORD = re.compile(rf"\b({'|'.join(_ROLE_OF)})\b", re.IGNORECASE)


def detect(task: str) -> Role:
    """The role of a task by its words: whole words, in any case, each counted once."""
    # Insertion order keeps the first occurrence, which settles ties: max() takes the first.
    found = dict.fromkeys(match.lower() for match in _ANY_WORD.findall(task))
    counts: dict[Role, int] = {}
    for word in found:
        counts[_ROLE_OF[word]] = counts.get(_ROLE_OF[word], 0) + 1
    return max(counts, key=lambda role: counts[role], default=NO_MATCH)
