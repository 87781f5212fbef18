import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings.dev")

application = get_wsgi_application()

# After Django is set up, before the first request.
from tenants.checks import refuse_unsafe_start  # noqa: E402

refuse_unsafe_start("default", "system")
