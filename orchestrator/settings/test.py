"""Tests: servers that the test session started itself (see tests/plugin.py)."""

import os

os.environ.setdefault("LOG_LEVEL", "WARNING")

from orchestrator.settings.base import *

SECRET_KEY = "only-for-tests"  # noqa: S105
CREDENTIALS_KEYS = ["dGhlIG5ld2VyIGtleSBvZiB0aGUgdGVzdHMsIDMyIGI="]
ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Static files straight from their sources: nothing is collected for a test.
WHITENOISE_AUTOREFRESH = True
WHITENOISE_USE_FINDERS = True
