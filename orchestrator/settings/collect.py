"""Building an image: static files as in production, without its secrets."""

from orchestrator.settings.base import *

SECRET_KEY = "only-for-collectstatic"  # noqa: S105
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
