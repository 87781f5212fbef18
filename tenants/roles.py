"""Roles of members, scopes of keys, and what a role may do.

One vocabulary decides in the API and in the admin: a member's role is a set of scopes, a
key carries its scopes itself.
"""

from django.db import models


class Role(models.TextChoices):
    OWNER = "owner", "Owner"  # everything, members and the tenant itself included
    ADMIN = "admin", "Admin"  # everything but owners
    EDITOR = "editor", "Editor"  # defines workflows and runs them
    VIEWER = "viewer", "Viewer"  # looks


class Scope(models.TextChoices):
    RUNS_WRITE = "runs:write", "Trigger and control runs"
    RUNS_READ = "runs:read", "Read runs"
    WORKFLOWS_WRITE = "workflows:write", "Define workflows and agents"
    WORKFLOWS_READ = "workflows:read", "Read workflows and agents"
    APPROVALS_WRITE = "approvals:write", "Decide approvals"
    COSTS_READ = "costs:read", "Read costs"
    ADMIN = "admin", "Manage projects, keys, members and settings"


_READ = frozenset({Scope.RUNS_READ, Scope.WORKFLOWS_READ, Scope.COSTS_READ})
_EDIT = _READ | {Scope.RUNS_WRITE, Scope.WORKFLOWS_WRITE, Scope.APPROVALS_WRITE}

ROLE_SCOPES: dict[str, frozenset[Scope]] = {
    Role.VIEWER: _READ,
    Role.EDITOR: _EDIT,
    Role.ADMIN: _EDIT | {Scope.ADMIN},
    Role.OWNER: _EDIT | {Scope.ADMIN},
}
