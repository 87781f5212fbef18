"""Models that play their part in a blueprint: what they say follows from what they are asked."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from agents_app.core.model import ModelReply, ModelRequest, ToolCall
from tests.scripted import reply

Part = Any  # a text, JSON for an answer with a form, or a list of (tool, arguments)


@dataclass
class Cast:
    """`parts` has, by words of a prompt, what is said to it: each time the next, then the last."""

    parts: dict[str, list[Part]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    heard: list[ModelRequest] = field(default_factory=list)

    def complete(self, request: ModelRequest) -> ModelReply:
        self.heard.append(request)
        prompt = request.messages[0].content
        words = next((words for words in self.parts if words in prompt), None)
        assert words is not None, f"nobody was to be asked: {prompt}"
        parts = self.parts[words]
        part = parts[min(self.asked[words], len(parts) - 1)]
        self.asked[words] += 1
        calls = tuple(
            ToolCall(id=f"c{self.asked[words]}_{number}", name=name, arguments=arguments)
            for number, (name, arguments) in enumerate(part if isinstance(part, list) else [])
        )
        said = part if isinstance(part, str) else json.dumps(part)
        return reply(request, "" if calls else said, *calls)

    def prompts(self, words: str) -> list[str]:
        """What was said to whoever is asked with these words."""
        prompts = (request.messages[0].content for request in self.heard)
        return [prompt for prompt in prompts if words in prompt]
