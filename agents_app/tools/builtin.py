"""The tools that every tenant may use."""

from agents_app.core.tools import Toolbox
from agents_app.tools.calculator import calculator
from agents_app.tools.echo import echo
from agents_app.tools.memory import forget, recall, remember
from agents_app.tools.text_stats import text_stats

BUILTIN_TOOLS = Toolbox((calculator, echo, text_stats, remember, recall, forget))
