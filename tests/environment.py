"""The environment variables: those that the settings read, and those that the documents list."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ROOT / "orchestrator" / "settings"
# The layers in the order in which a default counts; dev and test only change some.
FILES = ("base.py", "celery.py", "production.py", "dev.py")
READERS = frozenset({"env_text", "env_bool", "env_int", "env_float", "env_list", "env_database"})
GUIDE = ROOT / "docs" / "deployment.md"
_ROW = re.compile(r"^\| `([A-Z_{}]+)` \| (\S+) \|", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{[^}]*\}")


@cache
def read_by_settings() -> dict[str, str]:
    """Name -> default as text; `{}` stands for the part of a name that is filled in."""
    found: dict[str, str] = {}
    for file in FILES:
        for name, default in _calls(ast.parse((SETTINGS / file).read_text())):
            found[name] = found.get(name) or default
    return found


@cache
def documented() -> dict[str, str]:
    """The rows of the deployment guide's tables of settings, in the same form."""
    text = GUIDE.read_text()
    section = text.split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    return {
        _PLACEHOLDER.sub("{}", name): "" if default == "none" else default.strip("`")
        for name, default in _ROW.findall(section)
    }


def _calls(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id not in READERS:
            continue
        default = next((k.value for k in node.keywords if k.arg == "default"), None)
        default = node.args[1] if len(node.args) > 1 else default
        yield _name(node.args[0]), _text(default)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
        return "".join(parts)
    return str(ast.literal_eval(node))


def _text(node: ast.expr | None) -> str:
    value = ast.literal_eval(node) if node else ""
    return str(value).lower() if isinstance(value, bool) else str(value)
