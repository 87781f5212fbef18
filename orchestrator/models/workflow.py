from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from tenants.kernel.fields import OrderedJSONField
from tenants.kernel.models import TenantForeignKey, TenantOwned
from tenants.models import Project, slug_validator

step_name_validator = RegexValidator(
    r"^[a-z][a-z0-9_]*$", "Begin with a lower-case letter; use letters, digits and underscores."
)


class Workflow(TenantOwned):
    """The draft of a graph of agents: header here, steps in rows. Runs use published versions.

    Null means that the author left it out. Parts of the spec without a field of their own
    lie in `settings`, by their name in the spec.
    """

    project = TenantForeignKey(Project, on_delete=models.CASCADE, related_name="workflows")
    name = models.CharField(max_length=63, validators=[slug_validator])
    description = models.TextField(null=True, blank=True)
    module = models.CharField(max_length=63, null=True, blank=True)
    strategy = models.CharField(max_length=16, null=True, blank=True)
    max_parallel = models.PositiveIntegerField(null=True, blank=True)
    inputs = OrderedJSONField(null=True, blank=True)
    defaults = OrderedJSONField(null=True, blank=True)
    output = OrderedJSONField(null=True, blank=True)
    settings = OrderedJSONField(default=dict, blank=True)
    current_version = TenantForeignKey(
        "WorkflowVersion", on_delete=models.PROTECT, null=True, editable=False, related_name="+"
    )

    labelled_by = ("name",)

    class Meta:
        db_table = "workflow"
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "project", "name"], name="workflow_name_once_per_project"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Step(TenantOwned):
    """A vertex of a draft. `needs` are names of other steps, as in the spec."""

    workflow = TenantForeignKey(Workflow, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveIntegerField(default=0)
    name = models.CharField(max_length=63, validators=[step_name_validator])
    description = models.TextField(null=True, blank=True)
    needs = ArrayField(models.CharField(max_length=63), null=True, blank=True)
    agent = OrderedJSONField(
        null=True, blank=True, help_text="A saved agent's slug, or an agent described in place."
    )
    provider = models.CharField(max_length=32, null=True, blank=True)
    model = models.CharField(max_length=200, null=True, blank=True)
    system = models.TextField(null=True, blank=True)
    prompt = models.TextField(null=True, blank=True)
    tools = ArrayField(models.CharField(max_length=100), null=True, blank=True)
    parameters = OrderedJSONField(null=True, blank=True)
    output_schema = OrderedJSONField(null=True, blank=True)
    timeout = models.CharField(max_length=32, null=True, blank=True)
    priority = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(0), MaxValueValidator(10)]
    )
    settings = OrderedJSONField(default=dict, blank=True)

    labelled_by = ("workflow__name", "name")

    class Meta:
        db_table = "step"
        ordering: ClassVar = ["position", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "workflow", "name"],
                name="step_name_once_per_workflow",
                deferrable=models.Deferrable.DEFERRED,
            )
        ]

    def __str__(self) -> str:
        return self.name


class WorkflowVersion(TenantOwned):
    """A published, frozen form. The engine reads `plan` alone; `spec` is what the author wrote."""

    workflow = TenantForeignKey(Workflow, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    spec = OrderedJSONField()
    plan = OrderedJSONField()

    labelled_by = ("workflow__name", "number")

    class Meta:
        db_table = "workflow_version"
        ordering: ClassVar = ["-number"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "workflow", "number"], name="workflow_version_number_once"
            )
        ]

    def __str__(self) -> str:
        return f"version {self.number}"
