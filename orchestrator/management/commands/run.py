import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from orchestrator.management.support import (
    command_scope,
    project_by_slug,
    read_spec_file,
    readable_errors,
    usage,
    watch_to_the_end,
)
from orchestrator.services.runs import start_run
from orchestrator.services.workflows import publish_spec


class Command(BaseCommand):
    help = "Publish a workflow file, run it and watch it live in the terminal."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="A workflow in YAML or JSON.")
        parser.add_argument("--tenant", required=True, help="The tenant's slug.")
        parser.add_argument("--project", help="The project's slug; not needed if there is one.")
        parser.add_argument(
            "--input",
            action="append",
            default=[],
            metavar="K=V",
            help="An input as text (topic=Bees) or as JSON (count:=3). Repeatable.",
        )
        parser.add_argument("--json", action="store_true", help="End with one JSON line on stdout.")
        parser.add_argument("--detach", action="store_true", help="Print the run's id and leave.")

    def handle(self, *args: Any, **options: Any) -> None:
        spec = read_spec_file(options["file"])
        with readable_errors(options["file"]), command_scope(options["tenant"]) as tenant:
            version = publish_spec(project=project_by_slug(options["project"]), spec=spec)
            run = start_run(workflow=version.workflow, version=version, input=_input(options))
        if options["detach"]:
            self.stdout.write(str(run.id))
            return
        watch_to_the_end(self, tenant, run.id, as_json=options["json"])


def _input(options: dict[str, Any]) -> dict[str, Any]:
    return dict(_pair(text) for text in options["input"])


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip(":"):
        raise usage(f"--input {text!r}: write NAME=TEXT or NAME:=JSON.")
    if not name.endswith(":"):
        return name, value
    try:
        return name.removesuffix(":"), json.loads(value)
    except ValueError:
        raise usage(f"--input {text!r}: what follows := is not JSON.") from None
