"""Celery's settings. Messages are hints: their loss or doubling is the engine's to mend."""

from kombu.entity import Queue

from orchestrator.settings.env import env_bool, env_int, env_text

CELERY_BROKER_URL = env_text("CELERY_BROKER_URL") or env_text("REDIS_URL")
CELERY_RESULT_BACKEND = "orchestrator.dispatch.results:CountingBackend+" + CELERY_BROKER_URL
# Only chords look at results, and only to count them.
CELERY_RESULT_EXPIRES = 600
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED = False
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]

CELERY_TASK_DEFAULT_QUEUE = "agents"
CELERY_TASK_QUEUES = [Queue(name) for name in ("control", "agents.high", "agents", "agents.low")]
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_ROUTES = {
    "orchestrator.advance": {"queue": "control"},
    "orchestrator.sweep": {"queue": "control"},
}

# Early acks without the emulation's bookkeeping: leases and the sweeper recover lost work,
# the broker's redelivery does not (ten Redis commands a step become two).
CELERY_TASK_ACKS_LATE = False
# Queues are drained in the order in which a worker names them. A server that has vanished is
# noticed in seconds, and not when TCP gives up.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "ack_emulation": False,
    "queue_order_strategy": "priority",
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
CELERY_REDIS_SOCKET_TIMEOUT = 10
CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = 5
CELERY_REDIS_SOCKET_KEEPALIVE = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_POOL_LIMIT = 10
CELERY_WORKER_PREFETCH_MULTIPLIER = env_int("CELERY_PREFETCH", 1, minimum=1)
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = env_bool("CELERY_TASK_EVENTS", default=False)
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = float(env_int("CELERY_SOFT_SHUTDOWN_SECONDS", 20))
