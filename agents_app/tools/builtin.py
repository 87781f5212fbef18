"""The tools that come with the platform."""

from typing import Final

from agents_app.core.tool_sources import ToolSources
from agents_app.core.tools import Toolbox
from agents_app.tools.calculator import calculator
from agents_app.tools.echo import echo
from agents_app.tools.text_stats import text_stats

BUILTIN_TOOLS: Final = Toolbox((calculator, echo, text_stats))
# Those that depend on what a tenant has set.
BUILTIN_FACTORIES: Final = ToolSources()
