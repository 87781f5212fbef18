"""What a machine can tell of how code is written here. CONTRIBUTING.md says why."""

import ast
import inspect
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.app.defaults import NAMESPACES, flatten
from django.apps import apps
from django.conf import settings

from orchestrator.celery import app as celery_app
from tests.environment import documented, read_by_settings

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("orchestrator", "agents_app", "costs", "tenants")
# Before settings exist, a process has only its environment.
MAY_READ_ENVIRONMENT = ("orchestrator/settings/", "orchestrator/embedded/", "orchestrator/chaos/")
MAY_CHOOSE_SETTINGS = ("orchestrator/celery.py", "orchestrator/wsgi.py")
VENDOR_SDKS = frozenset({"openai", "anthropic"})
# Django's own inventions: names that tell nothing to whoever meets them in an error.
MADE_UP_CONSTRAINT = re.compile(r"_[0-9a-f]{6,8}(_(idx|uniq|fk))?$")
INTENT = re.compile(r"\d{4}_(?!auto_|alter_|.*_and_more$)[a-z][a-z0-9_]*")
# Spelt as patterns, so that this file does not break its own rule.
FOREIGN_PLACES = re.compile(
    r"/(?:work|root|Users)/|/home/\w+/"
    r"|\b(?:pypi|pythonhosted|npmjs|debian)\.(?:org|com)\b|--(?:extra-)?index-url \S"
)
MADE_ELSEWHERE = ("templates/static/vendor/",)


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def nodes(kind: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield name, node


def importers_of(wanted: set[str] | frozenset[str]) -> set[str]:
    found = set()
    for kind in (ast.Import, ast.ImportFrom):
        for name, node in nodes(kind):
            if wanted & {module.partition(".")[0] for module in modules_of(node)}:
                found.add(name)
    return found


def modules_of(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def files_in_git() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError):
        return ""


def own_tasks() -> dict[str, object]:
    celery_app.loader.import_default_modules()
    return {n: t for n, t in celery_app.tasks.items() if not n.startswith("celery.")}


def own_models() -> list[type]:
    return [m for m in apps.get_models() if m._meta.app_label in PACKAGES]


def test_tasks_have_explicit_permanent_names() -> None:
    calls = [
        node
        for _, node in nodes(ast.Call)
        if isinstance(node.func, ast.Name) and node.func.id == "shared_task"
    ]
    given = {k.value.value for call in calls for k in call.keywords if k.arg == "name"}

    assert len(given) == len(calls)
    assert given == own_tasks().keys()
    assert all(name.startswith("orchestrator.") for name in given)


def test_tasks_take_ids_as_text_only() -> None:
    for task in own_tasks().values():
        parameters = inspect.signature(task.run).parameters.values()
        assert {p.annotation for p in parameters} <= {str}, task.name


def test_celery_knows_every_setting() -> None:
    known = {name for name, _ in flatten(NAMESPACES)}
    ours = {name for name in dir(settings) if name.startswith("CELERY_")}

    assert {name.removeprefix("CELERY_").lower() for name in ours} - known == set()


def test_constraints_and_indexes_have_speaking_names() -> None:
    names = [
        (model.__name__, item.name)
        for model in own_models()
        for item in (*model._meta.constraints, *model._meta.indexes)
    ]

    assert [pair for pair in names if MADE_UP_CONSTRAINT.search(pair[1])] == []
    assert [m for m in own_models() if m._meta.unique_together] == []


def test_migrations_are_named_by_intent() -> None:
    names = [path.stem for p in PACKAGES for path in (ROOT / p).glob("migrations/[0-9]*.py")]

    assert [name for name in names if not INTENT.fullmatch(name)] == []


def test_only_settings_read_the_environment() -> None:
    readers = {
        name
        for name, node in nodes(ast.Attribute)
        if isinstance(node.value, ast.Name) and node.value.id == "os"
        if node.attr in {"environ", "getenv", "environb"}
    } | importers_of({"environ", "dotenv"})

    allowed = {n for n in readers if n.startswith(MAY_READ_ENVIRONMENT) or n in MAY_CHOOSE_SETTINGS}
    assert readers - allowed == set()


def test_only_providers_import_vendor_sdks() -> None:
    importers = importers_of(VENDOR_SDKS)

    assert importers
    assert all(name.startswith("agents_app/providers/") for name in importers)


def test_no_file_names_a_registry_or_a_place_on_someones_machine() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): match[0]
        for path in files_in_git()
        if not path.relative_to(ROOT).as_posix().startswith(MADE_ELSEWHERE)
        if (match := FOREIGN_PLACES.search(text_of(path)))
    }

    assert found == {}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "docs"])
def test_documents_name_make_targets_that_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    path = ROOT / name
    documents = sorted(path.rglob("*.md")) if path.is_dir() else [path]

    for document in documents:
        named = set(
            re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", document.read_text(), re.MULTILINE)
        )
        assert named - targets == set(), document.name


def test_documents_link_to_what_is_there() -> None:
    broken = [
        (document.name, target)
        for document in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text())
        if not (document.parent / target).exists()
    ]

    assert broken == []


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    assert documented().keys() == read_by_settings().keys()


def test_documented_defaults_are_the_real_ones() -> None:
    wrong = {
        name: (told, read_by_settings()[name])
        for name, told in documented().items()
        if name in read_by_settings() and told != read_by_settings()[name]
    }

    assert wrong == {}
