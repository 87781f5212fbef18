from uuid import UUID

from django.db.models import Q, QuerySet

from tenants.models import Project
from tenants.principals import Principal
from tenants.services.errors import AmbiguousError, NotFoundError


def projects_of(principal: Principal) -> QuerySet[Project]:
    """The projects that a caller sees: all of the tenant, or the one of a narrowed key."""
    projects = Project.objects.all()
    return projects if principal.project_id is None else projects.filter(id=principal.project_id)


def named(reference: str, *, by: str, id_field: str = "id") -> Q:
    """Rows whose id or name is `reference`."""
    try:
        return Q(**{id_field: UUID(reference)}) | Q(**{by: reference})
    except ValueError:
        return Q(**{by: reference})


def project_for(principal: Principal, reference: str | None, *, loc: str = "/project") -> Project:
    """The project that is meant: the one named by slug or id, else the only one there is."""
    projects = projects_of(principal)
    if reference is not None:
        found = projects.filter(named(reference, by="slug")).first()
        if found is None:
            raise NotFoundError("project", reference, loc)
        return found
    candidates = list(projects[:2])
    if len(candidates) != 1:
        raise AmbiguousError("Say which project, by its slug or id.", loc)
    return candidates[0]
