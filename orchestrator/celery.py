"""The Celery application. Tasks live in `orchestrator.tasks`."""

import os

from orchestrator.dispatch.app import BatchingCelery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings.dev")
# Celery would run Django's checks, which load every page; workers check what concerns them.
os.environ.setdefault("CELERY_SKIP_CHECKS", "true")

app = BatchingCelery("muster")
app.config_from_object("orchestrator.settings.celery")
app.autodiscover_tasks(["orchestrator"])
