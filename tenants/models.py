from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from uuid_utils.compat import uuid7

from tenants.kernel.fields import OrderedJSONField
from tenants.kernel.models import Record, TenantForeignKey, TenantOwned
from tenants.roles import Role, Scope
from tenants.scope import as_operator

slug_validator = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$",
    "Use 1 to 63 lower-case letters, digits, hyphens and underscores; "
    "begin and end with a letter or digit.",
)


class Accounts(UserManager["User"]):
    use_in_migrations = False

    def create_superuser(self, *args: Any, **kwargs: Any) -> "User":
        # Django's command names the application's connection, which cannot write accounts.
        return super(Accounts, self.db_manager("system")).create_superuser(*args, **kwargs)


class User(AbstractUser):
    """A person who logs in. Tenants see people only through memberships."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    objects: ClassVar[Accounts] = Accounts()
    labelled_by = ("username",)

    class Meta:
        db_table = "user_account"

    def save(self, *args: Any, **kwargs: Any) -> None:
        # Forms and commands of Django's own save accounts too; this signs what they change.
        with as_operator():
            super().save(*args, **kwargs)


class TenantStatus(models.TextChoices):
    ACTIVE = "active", "Active"
    SUSPENDED = "suspended", "Suspended"  # may look, may not start anything


class Tenant(Record):
    """A customer or department: the wall that nothing crosses."""

    slug = models.CharField(max_length=63, unique=True, validators=[slug_validator])
    name = models.CharField(max_length=200)
    status = models.CharField(
        max_length=16, choices=TenantStatus.choices, default=TenantStatus.ACTIVE
    )
    suspended_reason = models.CharField(max_length=500, blank=True)
    uses_environment_credentials = models.BooleanField(
        default=False,
        help_text="May use the provider keys that the operator put into the environment.",
    )
    weight = models.PositiveSmallIntegerField(
        default=1,
        db_default=1,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="Its share of the workers while others want them too, by their weights.",
    )
    max_runs = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="How many runs may be under way at a time; more wait for their turn. "
        "Empty: any number.",
    )

    labelled_by = ("name",)

    class Meta:
        db_table = "tenant"
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(status__in=TenantStatus.values), name="tenant_status_known"
            ),
            models.CheckConstraint(
                condition=models.Q(weight__range=(1, 100)), name="tenant_weight_1_to_100"
            ),
            models.CheckConstraint(
                condition=models.Q(max_runs__gte=1), name="tenant_max_runs_positive"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Project(TenantOwned):
    """A tenant's folder for workflows, runs and keys."""

    slug = models.CharField(max_length=63, validators=[slug_validator])
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)

    labelled_by = ("name",)

    class Meta:
        db_table = "project"
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="project_slug_once_per_tenant")
        ]

    def __str__(self) -> str:
        return self.name


class Membership(TenantOwned):
    """A user's role in a tenant."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.VIEWER)

    labelled_by = ("user__username",)

    class Meta:
        db_table = "membership"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "user"], name="membership_once_per_user"),
            models.CheckConstraint(
                condition=models.Q(role__in=Role.values), name="membership_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class ApiKey(TenantOwned):
    """A secret that acts for a tenant. Only its SHA-256 is kept; 256 random bits need no salt.

    `made_by` is the key that made it, if one did; `replaced_by` is what it was rotated into.
    """

    name = models.CharField(max_length=100)
    project = TenantForeignKey(
        Project,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        help_text="Narrows the key to one project.",
    )
    scopes = ArrayField(models.CharField(max_length=32, choices=Scope.choices))
    prefix = models.CharField(max_length=16, editable=False)
    key_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    made_by = TenantForeignKey(
        "self", on_delete=models.CASCADE, null=True, editable=False, related_name="made"
    )
    replaced_by = TenantForeignKey(
        "self", on_delete=models.SET_NULL, null=True, editable=False, related_name="replaces"
    )
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_reason = models.CharField(
        max_length=300, blank=True, default="", db_default="", editable=False
    )
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    labelled_by = ("name", "prefix")

    class Meta:
        db_table = "api_key"
        verbose_name = "API key"
        verbose_name_plural = "API keys"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [models.Index(fields=["tenant", "-id"], name="api_key_latest")]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def is_usable(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


class Credential(TenantOwned):
    """A tenant's own key for a model provider, or what its tools need; encrypted, see `encryption`.

    While it is being rotated it has two secrets, which both serve. `version` counts what changes
    a call made with it. `hint` is the end of the secret, by which people know it.
    """

    name = models.CharField(max_length=100)
    provider = models.CharField(max_length=32)
    base_url = models.CharField(max_length=500, blank=True)
    secret = models.BinaryField(editable=False)
    hint = models.CharField(max_length=4, blank=True, editable=False)
    previous_secret = models.BinaryField(null=True, editable=False)
    previous_hint = models.CharField(max_length=4, blank=True, editable=False)
    encrypted_with = models.CharField(max_length=12, editable=False)
    version = models.PositiveIntegerField(default=1, editable=False)
    default_model = models.CharField(max_length=200, blank=True)
    role_models = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=True)
    rotated_at = models.DateTimeField(null=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    refused_at = models.DateTimeField(null=True, editable=False)

    labelled_by = ("name",)

    class Meta:
        db_table = "credential"
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "name"], name="credential_name_once_per_tenant"
            ),
            # Else it would be a matter of luck which of them a call is charged to.
            models.UniqueConstraint(
                fields=["tenant", "provider"],
                condition=models.Q(enabled=True) & ~models.Q(provider="tool"),
                name="credential_one_enabled_per_provider",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ProviderCheck(TenantOwned):
    """The last time that somebody asked whether a provider works: with a credential, or without.

    It is written before the provider is asked, and holds no result until that has answered.
    """

    provider = models.CharField(max_length=32)
    credential = TenantForeignKey(
        Credential, on_delete=models.CASCADE, null=True, related_name="checks"
    )
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    ok = models.BooleanField(default=False)
    reachable = models.BooleanField(default=False)
    detail = models.CharField(max_length=500, blank=True)
    model = models.CharField(max_length=200, blank=True)
    latency_ms = models.PositiveIntegerField(default=0)
    limits = models.JSONField(default=dict)

    class Meta:
        db_table = "provider_check"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "provider", "credential"],
                nulls_distinct=False,
                name="provider_check_last_of_each",
            )
        ]

    def __str__(self) -> str:
        return self.provider


class AuditEntry(models.Model):
    """One change or trigger, written by the database itself; nobody edits or deletes it.

    `before` and `after` hold the columns that differ. A row without a tenant tells of the
    platform's own tables and is visible to operators alone.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.DO_NOTHING, null=True, db_constraint=False, related_name="+"
    )
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64, blank=True)
    actor_label = models.CharField(max_length=200, blank=True)
    ip = models.CharField(max_length=45, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    action = models.CharField(max_length=64)
    object_type = models.CharField(max_length=64)
    object_id = models.CharField(max_length=64)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)

    object_label = ""  # set by `with_labels`

    class Meta:
        db_table = "audit_entry"
        ordering: ClassVar = ["-id"]
        verbose_name_plural = "audit entries"
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-id"], name="audit_entry_latest"),
            models.Index(fields=["tenant", "object_type", "object_id"], name="audit_entry_object"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_id}"


class IdempotencyRecord(TenantOwned):
    """What a POST with an Idempotency-Key answered, kept to answer a repeat the same."""

    principal = models.CharField(max_length=100)
    key = models.CharField(max_length=255)
    fingerprint = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField()
    body = OrderedJSONField(null=True)
    location = models.TextField(blank=True)
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "idempotency_record"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "principal", "key"], name="idempotency_key_once_per_principal"
            )
        ]
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="idempotency_record_expiry")]

    def __str__(self) -> str:
        return self.key
