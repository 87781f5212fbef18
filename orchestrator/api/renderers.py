"""Answers that are not JSON. Errors never come here: they are always problem documents."""

import json
from collections.abc import Mapping
from typing import Any

from rest_framework.renderers import JSONRenderer

from orchestrator.core.yaml_io import dump_text
from tenants.api.renderers import TextRenderer


class SpecYamlRenderer(TextRenderer):
    """A workflow's spec alone, as a file that can be posted again."""

    media_type = "application/yaml"
    format = "yaml"

    def text_of(self, data: Any) -> str:
        return dump_text(data["spec"])


class BundleYamlRenderer(SpecYamlRenderer):
    def text_of(self, data: Any) -> str:
        return dump_text(data)


class AnyJsonRenderer(JSONRenderer):
    """JSON whose whole document may be null, which the base class leaves empty."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if data is None:
            return b"null"
        rendered: bytes = super().render(data, accepted_media_type, renderer_context)
        return rendered


class MermaidRenderer(TextRenderer):
    media_type = "text/plain"
    format = "mermaid"

    def text_of(self, data: Any) -> str:
        return str(data["mermaid"])


class MarkdownRenderer(TextRenderer):
    """A run's output for people: text as it is, an object as one section per key."""

    media_type = "text/markdown"
    format = "md"

    def text_of(self, data: Any) -> str:
        return markdown_of(data)


def markdown_of(value: Any) -> str:
    if isinstance(value, Mapping):
        parts = [f"## {key}\n\n{_block(item)}" for key, item in value.items()]
        return "\n\n".join(parts) + "\n"
    return _block(value) + "\n"


def _block(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "*nothing*"
    return f"```json\n{json.dumps(value, ensure_ascii=False, indent=2)}\n```"
