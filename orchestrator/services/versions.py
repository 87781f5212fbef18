"""Going back to what was published before. Versions are frozen, so nothing is ever undone."""

from orchestrator.models import Workflow, WorkflowVersion
from orchestrator.services.drafts import save_draft
from orchestrator.services.workflows import publish
from tenants.services.notes import note


def restore_version(version: WorkflowVersion, *, and_publish: bool = False) -> Workflow:
    """Make the draft equal to an earlier version, and publish it as a new one if asked.

    All or nothing: raises WorkflowInvalidError if the version's name is taken by now, or, on
    publishing, with whatever it refers to that is no longer there.
    """
    workflow = save_draft(
        project=version.workflow.project, spec=version.spec, workflow=version.workflow
    )
    published = publish(workflow) if and_publish else None
    facts = {"version": version.number, "published": published.number if published else None}
    note("workflow.restored", object_type="workflow", object_id=workflow.id, facts=facts)
    return workflow
