"""Settings shared by every environment. Only this package reads the environment."""

from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from orchestrator.settings.celery import broker_url
from orchestrator.settings.env import (
    env_bool,
    env_database,
    env_float,
    env_int,
    env_list,
    env_text,
    factors,
    fernet_keys,
    hosts,
    mcp_commands,
    nano_usd,
    networks,
    package_providers,
)
from orchestrator.settings.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent.parent

DEBUG = False
SECRET_KEY = env_text("SECRET_KEY")
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS") or ["localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS")
ROOT_URLCONF = "orchestrator.urls"
WSGI_APPLICATION = "orchestrator.wsgi.application"
AUTH_USER_MODEL = "tenants.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    # Before the admin, whose templates it replaces; basic, so that our own site stays.
    "unfold.apps.BasicAppConfig",
    "orchestrator.admin_site.MusterAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_structlog",
    "tenants",
    "costs",
    "agents_app",
    "orchestrator",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "tenants.middleware.TenantMiddleware",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Three ways into one database: the application (row-level security holds), the sweeper and
# operator pages (all tenants by policy), and the owner of the tables (migrations only).
_POOL = {"min_size": 0, "max_size": env_int("DATABASE_POOL_SIZE", 10, minimum=1), "timeout": 30}
DATABASES: dict[str, dict[str, Any]] = {
    "default": env_database("DATABASE_URL"),
    "system": env_database("SYSTEM_DATABASE_URL"),
    "owner": env_database("MIGRATION_DATABASE_URL"),
}
# A server that has vanished is noticed in seconds, and not when TCP gives up.
_VANISHED = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
for _alias in ("default", "system"):
    _given = DATABASES[_alias].get("OPTIONS", {})
    DATABASES[_alias]["OPTIONS"] = {**_VANISHED, **_given, "pool": _POOL}
DATABASE_ROUTERS = ["tenants.routers.OwnerMigrates"]

PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
    )
]
LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/admin/"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = ["orchestrator.formats"]

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]
# The 5 MB of a large workflow, and room for its envelope.
DATA_UPLOAD_MAX_MEMORY_SIZE = 6 * 1024 * 1024
# An admin form of a workflow has some twenty fields a step.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 50_000

# Mail: without a server none is sent, and what it would have told is on the pages alone.
EMAIL_HOST = env_text("EMAIL_HOST")
EMAIL_PORT = env_int("EMAIL_PORT", 587)
EMAIL_HOST_USER = env_text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env_text("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS", default=True)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env_text("DEFAULT_FROM_EMAIL", "muster@localhost")

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tenants.authentication.PrincipalAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["tenants.permissions.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["orchestrator.api.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "tenants.api.openapi.ApiSchema",
    "DEFAULT_PAGINATION_CLASS": "tenants.api.pagination.NewestFirst",
    "EXCEPTION_HANDLER": "orchestrator.api.errors.problem_response",
    "UNAUTHENTICATED_USER": None,
    "DATETIME_FORMAT": "%Y-%m-%dT%H:%M:%S.%fZ",
}

REDIS_URL = env_text("REDIS_URL")
LOGGING = logging_config(
    level=env_text("LOG_LEVEL", "INFO"), as_json=env_bool("LOG_JSON", default=True)
)
DJANGO_STRUCTLOG_CELERY_ENABLED = False
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
# How many proxies of one's own stand in front; addresses in headers count from there on.
TRUSTED_PROXY_COUNT = env_int("TRUSTED_PROXY_COUNT", 0)

# The engine. A lease outlives several of its renewals; see ARCHITECTURE.md.
CELERY_BROKER_URL: str = broker_url
MUSTER_LEASE_SECONDS = env_int("MUSTER_LEASE_SECONDS", 15, minimum=3)
MUSTER_SWEEP_SECONDS = env_float("MUSTER_SWEEP_SECONDS", 2.0)
# Each hung thread costs a share of the process; a restart costs waiting for the healthy ones.
MUSTER_HUNG_SHARE = env_float("MUSTER_HUNG_SHARE", 0.25)
# Answers that come as a stream cost many times the CPU of those in one piece. Where nobody follows
# a run, somebody may come; so as many calls of a process are streamed all the same.
MUSTER_UNFOLLOWED_STREAMS = env_int("MUSTER_UNFOLLOWED_STREAMS", 16)
MUSTER_ENGINE_POOL_SIZE = env_int("MUSTER_ENGINE_POOL_SIZE", 10, minimum=1)
# The limiter: what calls do while Redis is away (wait, or local: each process counts for itself),
# and how many connections a process keeps to it.
MUSTER_LIMITER_FALLBACK = env_text("MUSTER_LIMITER_FALLBACK", "wait")
if MUSTER_LIMITER_FALLBACK not in ("wait", "local"):
    raise ImproperlyConfigured("MUSTER_LIMITER_FALLBACK is wait or local.")
MUSTER_LIMITER_CONNECTIONS = env_int("MUSTER_LIMITER_CONNECTIONS", 16, minimum=1)
# What agents may add to their run: so many steps in all, and so deep below each other.
MUSTER_MAX_ADDED_STEPS = env_int("MUSTER_MAX_ADDED_STEPS", 200)
MUSTER_MAX_WAIT_SECONDS = env_int("MUSTER_MAX_WAIT_SECONDS", 3600)
MUSTER_MAX_ADDED_DEPTH = env_int("MUSTER_MAX_ADDED_DEPTH", 3)
# What agents remember: how its words are told apart (a text search configuration of PostgreSQL),
# what searches it, for how many days what belongs to a run is kept, and how many entries one owner
# may have.
MUSTER_MEMORY_SEARCHER = env_text("MUSTER_MEMORY_SEARCHER", "agents_app.services.memory.FullText")
MUSTER_MEMORY_LANGUAGE = env_text("MUSTER_MEMORY_LANGUAGE", "simple")
MUSTER_MEMORY_RUN_DAYS = env_int("MUSTER_MEMORY_RUN_DAYS", 30, minimum=1)
MUSTER_MEMORY_ENTRIES = env_int("MUSTER_MEMORY_ENTRIES", 10_000, minimum=1)
# What agents of a run may tell each other: so many messages in all, and unread by one of them.
MUSTER_MAX_MESSAGES = env_int("MUSTER_MAX_MESSAGES", 100_000, minimum=1)
MUSTER_MAX_UNREAD = env_int("MUSTER_MAX_UNREAD", 1_000, minimum=1)
# From this hour on, UTC, the ledger is compared with what sums it up.
MUSTER_LEDGER_CHECK_HOUR = env_int("MUSTER_LEDGER_CHECK_HOUR", 3)
# Money. What a new tenant may spend in a month, unless the operator says otherwise; empty: all.
MUSTER_DEFAULT_BUDGET_NANO = nano_usd(
    "MUSTER_DEFAULT_BUDGET_USD", env_text("MUSTER_DEFAULT_BUDGET_USD", "50")
)
# The guard against loops: what a run may always spend a minute (empty: no guard), from how many
# times the usual on a run or a tenant is paused, and for how long a person's yes to it holds.
MUSTER_VELOCITY_FLOOR_NANO = nano_usd(
    "MUSTER_VELOCITY_FLOOR_USD", env_text("MUSTER_VELOCITY_FLOOR_USD", "1")
)
MUSTER_VELOCITY_FACTOR = env_int("MUSTER_VELOCITY_FACTOR", 10, minimum=2)
MUSTER_VELOCITY_YES_SECONDS = env_int("MUSTER_VELOCITY_YES_SECONDS", 3600)
# Where the chaos suite lets processes die; see execution/crashpoints.py.
# A folder with agents and tools of the operator's own, and whether its files are watched.
MUSTER_PLUGINS_DIR = env_text("MUSTER_PLUGINS_DIR")
MUSTER_PLUGINS_RELOAD = False

MUSTER_CRASH_POINTS = env_text("MUSTER_CRASH_POINTS")
# For steps that say nothing of retries themselves: all tries, and seconds before the second.
MAX_RETRIES = env_int("MAX_RETRIES", 3, minimum=1)
RETRY_DELAY = env_float("RETRY_DELAY", 2.0)

# Providers. Keys in the environment serve only tenants that are flagged to use them.
LLM_PROVIDER = env_text("LLM_PROVIDER", "local")
LLM_TEMPERATURE = env_float("LLM_TEMPERATURE", 0.7)
LLM_MAX_TOKENS = env_int("LLM_MAX_TOKENS", 4096, minimum=1)
MUSTER_PROVIDERS: dict[str, dict[str, str]] = {
    "openai": {
        "api_key": env_text("OPENAI_API_KEY"),
        "base_url": env_text("OPENAI_BASE_URL"),
    },
    "anthropic": {
        "api_key": env_text("ANTHROPIC_API_KEY"),
        "base_url": env_text("ANTHROPIC_BASE_URL"),
    },
    "xai": {
        "api_key": env_text("XAI_API_KEY"),
        "base_url": env_text("XAI_BASE_URL", "https://api.x.ai/v1"),
    },
    "ollama": {"base_url": env_text("OLLAMA_BASE_URL")},
    "compatible": {
        "api_key": env_text("COMPATIBLE_API_KEY"),
        "base_url": env_text("COMPATIBLE_BASE_URL"),
    },
    "local": {"base_url": env_text("LOCAL_MODEL_URL")},
    "simulated": {},
}
# Calls in batches of providers: so many in one, which is sent so many seconds after its first call
# at the latest, and asked for so often; what is left of prices, by provider, if not the usual; and
# the compatible servers that take them.
MUSTER_BATCH_REQUESTS = env_int("MUSTER_BATCH_REQUESTS", 500, minimum=1)
MUSTER_BATCH_COLLECT_SECONDS = env_float("MUSTER_BATCH_COLLECT_SECONDS", 60)
MUSTER_BATCH_POLL_SECONDS = env_float("MUSTER_BATCH_POLL_SECONDS", 30)
MUSTER_BATCH_FACTORS = factors("MUSTER_BATCH_FACTORS", env_list("MUSTER_BATCH_FACTORS"))
MUSTER_BATCHES_AT = (
    frozenset({"compatible"}) if env_bool("COMPATIBLE_BATCHES", default=False) else frozenset()
)
# What tenants' own keys are encrypted with, newest first; the older ones only read.
CREDENTIALS_KEYS = fernet_keys("CREDENTIALS_KEYS", env_list("CREDENTIALS_KEYS"))
# Where the addresses that tenants name may lead beside the public internet.
MUSTER_PRIVATE_NETWORKS = networks("MUSTER_PRIVATE_NETWORKS", env_list("MUSTER_PRIVATE_NETWORKS"))
# Private hosts that tools may reach beside the public internet.
MUSTER_TOOL_PRIVATE_HOSTS = hosts(
    "MUSTER_TOOL_PRIVATE_HOSTS", env_list("MUSTER_TOOL_PRIVATE_HOSTS")
)
# MCP servers that are programs on the workers' machines, and how often all of them are asked anew.
MUSTER_MCP_COMMANDS = mcp_commands("MUSTER_MCP_COMMANDS", env_text("MUSTER_MCP_COMMANDS"))
MUSTER_MCP_REFRESH_SECONDS = env_int("MUSTER_MCP_REFRESH_SECONDS", 3600, minimum=60)
# How long a call of a workflow over MCP waits for the run's end: less than its clients do.
MUSTER_MCP_WAIT_SECONDS = env_int("MUSTER_MCP_WAIT_SECONDS", 45, minimum=1)
# What may have a model of its own: roles, and how complex a prompt is.
MUSTER_MODEL_USES = (
    *("orchestrator", "planner", "executor", "reviewer"),
    *("simple", "moderate", "complex"),
)
# Those of installed packages, whose keys and addresses are named like the others'.
for _name in package_providers():
    MUSTER_PROVIDERS.setdefault(
        _name,
        {
            "api_key": env_text(f"{_name.upper()}_API_KEY"),
            "base_url": env_text(f"{_name.upper()}_BASE_URL"),
        },
    )
for _name, _provider in MUSTER_PROVIDERS.items():
    _provider["model"] = env_text(f"{_name.upper()}_MODEL")
    for _use in MUSTER_MODEL_USES:
        _provider[f"model_{_use}"] = env_text(f"{_name.upper()}_MODEL_{_use.upper()}")

SPECTACULAR_SETTINGS = {
    "TITLE": "Muster",
    "DESCRIPTION": "Run AI-agent workflows on a Celery cluster.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SERVE_PUBLIC": True,
    "SERVE_PERMISSIONS": [],
    "SERVE_AUTHENTICATION": [],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "MemberRole": "tenants.roles.Role",
        "TenantStatus": "tenants.models.TenantStatus",
        "AgentRole": "agents_app.core.roles.Role",
        "RunStatus": "orchestrator.api.serializers.RUN_STATUSES",
        "AgentRunStatus": "orchestrator.api.serializers.AGENT_RUN_STATUSES",
        "ApprovalStatus": "orchestrator.models.ApprovalStatus.values",
        "CredentialState": "tenants.selectors.credentials.STATES",
        "BatchStatus": "orchestrator.api.batches.BATCH_STATUSES",
        "BudgetScope": "costs.models.BudgetScope",
        "LimitScope": "orchestrator.api.limits.LIMIT_SCOPES",
        "LimitUnit": "orchestrator.api.limits.UNITS",
        "LimitCounting": "orchestrator.api.limits.COUNTINGS",
    },
}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Muster",
    "SITE_HEADER": "Muster",
    "SITE_SYMBOL": "hub",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": "orchestrator.navigation.favicon"}
    ],
    "SITE_URL": None,
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": False,
    "BORDER_RADIUS": "8px",
    "STYLES": ["orchestrator.navigation.stylesheet"],
    "SIDEBAR": {"navigation": "orchestrator.navigation.sidebar"},
    "COLORS": {
        "primary": {
            "50": "oklch(96.2% .018 272.3)",
            "100": "oklch(93% .034 272.8)",
            "200": "oklch(87% .065 274)",
            "300": "oklch(78.5% .115 274.7)",
            "400": "oklch(67.3% .182 276.9)",
            "500": "oklch(58.5% .233 277.1)",
            "600": "oklch(51.1% .262 276.9)",
            "700": "oklch(45.7% .24 277)",
            "800": "oklch(39.8% .195 277.4)",
            "900": "oklch(35.9% .144 278.7)",
            "950": "oklch(25.7% .09 281.3)",
        },
    },
}
