"""A laptop: the servers of `make up` or `make demo`, unless the environment names others."""

from pathlib import Path

from orchestrator.settings.env import load_file

load_file(Path(__file__).resolve().parent.parent.parent / ".muster" / "env")

from orchestrator.settings.base import *
from orchestrator.settings.env import env_bool, env_text
from orchestrator.settings.logs import logging_config

DEBUG = env_bool("DEBUG", default=False)
SECRET_KEY = SECRET_KEY or "only-for-this-laptop"
LOGGING = logging_config(
    level=env_text("LOG_LEVEL", "INFO"), as_json=env_bool("LOG_JSON", default=False)
)
MUSTER_PLUGINS_RELOAD = True
# Straight from their sources: a laptop collects no static files.
WHITENOISE_USE_FINDERS = True
