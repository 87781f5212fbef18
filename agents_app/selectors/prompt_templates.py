from django.db.models import QuerySet

from agents_app.core.prompt_templates import DEFAULT, DEFAULT_NAME, RoleModel, TemplateSet
from agents_app.core.roles import Role
from agents_app.models import PromptTemplate
from tenants.services.errors import NotFoundError


def prompt_templates() -> QuerySet[PromptTemplate]:
    return PromptTemplate.objects.all()


def template_set(name: str | None = None) -> TemplateSet:
    """The tenant's set of this name; without one its `default`, else the one that is shipped.

    Raises NotFoundError.
    """
    wanted = name or DEFAULT_NAME
    row = PromptTemplate.objects.filter(name=wanted).first()
    if row is not None:
        return as_set(row)
    if wanted == DEFAULT_NAME:
        return DEFAULT
    raise NotFoundError("prompt template", wanted, "/template")


def as_set(row: PromptTemplate) -> TemplateSet:
    chosen = {Role(role): RoleModel(**choice) for role, choice in row.models.items()}
    return TemplateSet(
        name=row.name,
        description=row.description,
        system=row.system,
        task=row.task,
        models=chosen,
    )
