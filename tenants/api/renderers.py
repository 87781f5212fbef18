from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from rest_framework.renderers import BaseRenderer


class TextRenderer(BaseRenderer):
    """Answers in a text of their own, in UTF-8."""

    charset = "utf-8"

    @abstractmethod
    def text_of(self, data: Any) -> str: ...

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> str:
        return self.text_of(data)
