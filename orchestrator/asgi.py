# Sets Django up and checks the database roles, so it comes first.
from orchestrator.wsgi import application as wsgi  # isort: skip
from orchestrator.web import Web

application = Web(wsgi)
