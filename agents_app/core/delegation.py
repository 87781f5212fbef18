"""Handing tasks to other agents, and going on with what comes of them."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import JsonValue

from agents_app.core import values
from agents_app.core.errors import DelegationRefusedError

# The step that asks a person, ahead of all others.
APPROVAL: Final = "approval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """Steps that an agent hands to others, and goes on with what comes of them.

    `steps` stand as in a workflow file, by name. `calls` has the step that answers each of the
    calls which the agent made in this turn; None for a call that all of them answer together.
    The steps read `given` as the output of the agent. With `approval`, the text of a question, a
    person is asked first: always, or if the steps may cost more than `approve_above_usd`.
    """

    turn: int
    calls: Mapping[str, str | None]
    steps: Mapping[str, JsonValue]
    given: JsonValue = None
    approval: str = ""
    approve_above_usd: str = ""


class Delegating(Protocol):
    """The port through which an agent delegates, as the last thing that it does in its turn."""

    def take(self, wanted: Delegation) -> None:
        """Check that these steps can be run. Raises DelegationRefusedError, for the agent to read.

        They begin once the agent has ended with the same delegation as its outcome. When they
        have, it is run again, and its journal answers the calls.
        """
        ...


class _NoDelegation:
    def take(self, wanted: Delegation) -> None:
        raise DelegationRefusedError("there is no run that could take further steps")


NO_DELEGATION: Final[Delegating] = _NoDelegation()


def literal(value: JsonValue) -> JsonValue:
    """The value as a template that gives it unchanged."""
    return values.with_texts(value, literal_text)


def literal_text(text: str) -> str:
    return text.replace("${", "$${")


def step_name(name: str, *, taken: Collection[str]) -> str:
    """A step's name that tells of `name`, and is not among those `taken`."""
    base = re.sub(r"[^a-z0-9_]", "_", name.lower())[:40]
    base = base if base[:1].isalpha() else f"a_{base}"
    found, number = base, 1
    while found in taken:
        number += 1
        found = f"{base}_{number}"
    return found
