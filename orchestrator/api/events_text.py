"""What the models of a run are writing, for those of its listeners that this process serves."""

import asyncio
import json
from collections import OrderedDict
from typing import Final
from uuid import UUID

from orchestrator.core.speech import Said
from tenants.kernel.clock import now

# Of so many calls of a run at once; whoever follows more misses text, and no rows.
_MOST_TEXTS: Final = 300
# For so long after its end a text is there for those who have not taken all of it.
_KEPT_SECONDS: Final = 10.0
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class RunTexts:
    """The texts so far, from which each listener takes what it has not had."""

    def __init__(self, run_id: UUID) -> None:
        self._run_id = run_id
        self._texts: OrderedDict[str, Said] = OrderedDict()
        self.listeners = 0
        self._news = asyncio.get_running_loop().create_future()

    @property
    def news(self) -> asyncio.Future[None]:
        """Done once there is more than now."""
        return self._news

    def take(self, said: Said) -> None:
        before = self._texts.get(said.call_id)
        self._texts[said.call_id] = before.joined(said) if before else said
        self._texts.move_to_end(said.call_id)
        while len(self._texts) > _MOST_TEXTS:
            self._texts.popitem(last=False)
        if said.is_last:
            asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._drop, said.call_id)
        self._news.set_result(None)
        self._news = asyncio.get_running_loop().create_future()

    def _drop(self, call_id: str) -> None:
        self._texts.pop(call_id, None)

    def lines_for(self, heard: dict[str, int]) -> bytes:
        """What a listener has not heard; `heard` is how far it has come in each call, and moves."""
        for gone in heard.keys() - self._texts.keys():
            del heard[gone]
        return b"".join(self._line(said, heard) for said in tuple(self._texts.values()))

    def _line(self, said: Said, heard: dict[str, int]) -> bytes:
        new = said.behind(heard.get(said.call_id, said.offset))
        if not new.text:
            return b""
        heard[said.call_id] = new.end
        envelope = {
            "type": "agent.text",
            "timestamp": now().strftime(_TIME),
            "data": {"run_id": str(self._run_id), **new.facts},
        }
        # Without an id: whoever comes again goes on behind the rows that it has.
        return f"event: agent.text\ndata: {json.dumps(envelope)}\n\n".encode()
