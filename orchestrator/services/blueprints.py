"""Blueprints become workflows of a project, and are priced as if they were."""

from django.db import transaction

from orchestrator.core.blueprint import Blueprint
from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.selectors.plan_prices import DraftPrice, draft_price
from orchestrator.services.bundles import Installed, OnConflict, install_bundle
from orchestrator.services.drafts import draft_spec
from tenants.models import Project


def adopt_blueprint(
    blueprint: Blueprint,
    *,
    project: Project,
    on_conflict: OnConflict = "refuse",
    provider: str = "",
    model: str = "",
    and_publish: bool = False,
) -> Installed:
    """Make it a draft of the project, with the agents and workflows that it needs.

    With a provider and a model, all of it asks these in place of its own. Raises
    BundleInvalidError with every reason why not, and has changed nothing then.
    """
    return install_bundle(
        blueprint.document(provider=provider, model=model),
        project=project,
        on_conflict=on_conflict,
        and_publish=and_publish,
    )


def blueprint_price(
    blueprint: Blueprint, *, project: Project, provider: str = "", model: str = ""
) -> DraftPrice:
    """What a run of it would cost here; its agents and workflows exist only while it is priced."""
    with transaction.atomic():
        try:
            adopted = adopt_blueprint(
                blueprint, project=project, on_conflict="rename", provider=provider, model=model
            )
            price = draft_price(adopted.workflow, draft_spec(adopted.workflow))
        except WorkflowInvalidError as error:
            price = DraftPrice(hindrance=error.problems[0].message)
        transaction.set_rollback(True)
    return price
