from typing import Any

from tenants.models import ApiKey, Project
from tenants.services.errors import AlreadyExistsError, ProjectNotEmptyError


def create_project(*, slug: str, name: str = "", description: str = "") -> Project:
    _refuse_taken(slug)
    return Project.objects.create(slug=slug, name=name or slug, description=description)


def change_project(project: Project, **changes: Any) -> Project:
    slug = changes.get("slug", project.slug)
    if slug != project.slug:
        _refuse_taken(slug)
    for field, value in changes.items():
        setattr(project, field, value)
    project.save(update_fields=[*changes, "updated_at"])
    return project


def delete_project(project: Project) -> None:
    """Delete an empty project, its keys included. What it holds must be deleted first."""
    if any(_holds(project, relation) for relation in Project._meta.related_objects):
        raise ProjectNotEmptyError(project.slug)
    project.delete()


def _holds(project: Project, relation: Any) -> bool:
    model = relation.related_model
    return model is not ApiKey and model.objects.filter(**{relation.field.name: project}).exists()


def _refuse_taken(slug: str) -> None:
    if Project.objects.filter(slug=slug).exists():
        raise AlreadyExistsError("project", slug, "/slug")
