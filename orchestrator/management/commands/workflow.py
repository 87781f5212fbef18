from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from orchestrator.core.mermaid import to_mermaid
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.yaml_io import dump_text
from orchestrator.management.support import (
    command_scope,
    project_by_slug,
    read_spec_file,
    readable_errors,
    usage,
)
from orchestrator.models import Workflow
from orchestrator.selectors.blueprints import blueprints
from orchestrator.services.blueprints import adopt_blueprint
from orchestrator.services.bundle_export import export_bundle
from orchestrator.services.bundles import (
    ON_CONFLICT,
    Installed,
    install_bundle,
)
from orchestrator.services.workflows import draft_spec, publish, save_draft, validate_spec


class Command(BaseCommand):
    help = "Check, load, export, install or draw a workflow, or adopt a blueprint."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for name, text in (
            ("validate", "Report everything that stands in the way of publishing a file."),
            ("load", "Save a file as a draft; with --publish also as a version."),
        ):
            action = actions.add_parser(name, help=text)
            action.add_argument("file")
            _add_place(action)
            if name == "load":
                action.add_argument("--publish", action="store_true")
        export = actions.add_parser("export", help="Print a draft as YAML.")
        export.add_argument("name")
        export.add_argument(
            "--bundle",
            action="store_true",
            help="With the saved agents and the versions of workflows that it names.",
        )
        _add_place(export)
        install = actions.add_parser("install", help="Put a bundle in, all of it or nothing.")
        install.add_argument("file")
        _add_installing(install)
        actions.add_parser("blueprints", help="List the workflows that ship ready-made.")
        adopt = actions.add_parser("adopt", help="Make a blueprint a workflow of a project.")
        adopt.add_argument("name")
        adopt.add_argument("--provider", default="", help="Whom it asks, in place of its own.")
        adopt.add_argument("--model", default="", help="Which model of that provider.")
        _add_installing(adopt)
        diagram = actions.add_parser("diagram", help="Print a file's graph as Mermaid text.")
        diagram.add_argument("file")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['action']}")(options)

    def _validate(self, options: dict[str, Any]) -> None:
        spec = read_spec_file(options["file"])
        with command_scope(options["tenant"]):
            problems = validate_spec(spec)
        for problem in problems:
            self.stdout.write(str(problem))
        if problems:
            raise SystemExit(1)
        self.stderr.write(f"{options['file']} can be published.")

    def _load(self, options: dict[str, Any]) -> None:
        spec = read_spec_file(options["file"])
        with readable_errors(options["file"]), command_scope(options["tenant"]):
            project = project_by_slug(options["project"])
            existing = Workflow.objects.filter(project=project, name=spec.get("name")).first()
            workflow = save_draft(project=project, spec=spec, workflow=existing)
            told = f"Saved the draft {workflow.name}"
            if options["publish"]:
                told += f" and published version {publish(workflow).number}"
        self.stdout.write(f"{told}.")

    def _export(self, options: dict[str, Any]) -> None:
        with command_scope(options["tenant"]):
            project = project_by_slug(options["project"])
            workflow = Workflow.objects.filter(project=project, name=options["name"]).first()
            if workflow is None:
                raise usage(f"There is no workflow {options['name']!r} in project {project.slug}.")
            with readable_errors(workflow.name):
                shown = export_bundle(workflow) if options["bundle"] else draft_spec(workflow)
            self.stdout.write(dump_text(shown), ending="")

    def _install(self, options: dict[str, Any]) -> None:
        bundle = read_spec_file(options["file"])
        with readable_errors(options["file"]), command_scope(options["tenant"]):
            installed = install_bundle(
                bundle,
                project=project_by_slug(options["project"]),
                on_conflict=options["on_conflict"],
                and_publish=options["publish"],
            )
            self._tell(installed)

    def _blueprints(self, options: dict[str, Any]) -> None:
        for blueprint in blueprints().values():
            self.stdout.write(f"{blueprint.name} ({blueprint.module}): {blueprint.description}")

    def _adopt(self, options: dict[str, Any]) -> None:
        blueprint = blueprints().get(options["name"])
        if blueprint is None:
            known = ", ".join(blueprints())
            raise usage(f"There is no blueprint {options['name']!r}. Known: {known}.")
        if bool(options["provider"]) != bool(options["model"]):
            raise usage("Give --provider and --model together.")
        with readable_errors(blueprint.name), command_scope(options["tenant"]):
            installed = adopt_blueprint(
                blueprint,
                project=project_by_slug(options["project"]),
                on_conflict=options["on_conflict"],
                provider=options["provider"],
                model=options["model"],
                and_publish=options["publish"],
            )
            self._tell(installed)

    def _tell(self, installed: Installed) -> None:
        version = installed.version
        told = f"published version {version.number}" if version else "saved as a draft"
        self.stdout.write(f"Installed {installed.workflow.name}, {told}.")
        for name, here in {**installed.agents, **installed.workflows}.items():
            if name != here:
                self.stdout.write(f"{name} is called {here} here.")

    def _diagram(self, options: dict[str, Any]) -> None:
        spec = read_spec_file(options["file"])
        with readable_errors(options["file"]):
            self.stdout.write(to_mermaid(spec_from_mapping(spec)))


def _add_installing(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--on-conflict",
        choices=ON_CONFLICT,
        default="refuse",
        help="What to do where something else has a name already.",
    )
    parser.add_argument("--publish", action="store_true")
    _add_place(parser)


def _add_place(parser: ArgumentParser) -> None:
    parser.add_argument("--tenant", required=True, help="The tenant's slug.")
    parser.add_argument("--project", help="The project's slug; not needed if there is one.")
