from collections.abc import Iterator
from contextlib import contextmanager

from agents_app.core.errors import ToolFailedError, ToolSecretError
from agents_app.tools.web_address import WebRefusedError


@contextmanager
def failing_as(tool: str) -> Iterator[None]:
    """Tell refusals of the web, and missing credentials, as failures of this tool."""
    try:
        yield
    except (WebRefusedError, ToolSecretError) as error:
        raise ToolFailedError(tool, str(error)) from error
