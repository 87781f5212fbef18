"""Celery's settings. Messages are hints: their loss or doubling is the engine's to mend.

Celery reads this module itself, by its own names: through Django's settings each look-up costs
ten times as much, and publishing one message takes a dozen.
"""

from kombu.entity import Queue

from orchestrator.settings.env import env_bool, env_int, env_text

broker_url = env_text("CELERY_BROKER_URL") or env_text("REDIS_URL")
result_backend = "orchestrator.dispatch.results:CountingBackend+" + broker_url
# Only chords look at results, and only to count them.
result_expires = 600
task_ignore_result = True
task_store_errors_even_if_ignored = False
task_serializer = "json"
result_serializer = "json"
accept_content = ["json"]

task_default_queue = "agents"
task_queues = [
    Queue(name) for name in ("control", "agents.high", "agents", "agents.low", "tools.cpu")
]
task_create_missing_queues = False
task_routes = {
    "orchestrator.advance": {"queue": "control"},
    "orchestrator.sweep": {"queue": "control"},
}

# Early acks without the emulation's bookkeeping: leases and the sweeper recover lost work,
# the broker's redelivery does not (ten Redis commands a step become two).
task_acks_late = False
# Queues are drained in the order in which a worker names them. A server that has vanished is
# noticed in seconds, and not when TCP gives up.
broker_transport_options = {
    "ack_emulation": False,
    "queue_order_strategy": "priority",
    # Queues have the priorities here, not messages; each step would be a list more to ask for.
    "priority_steps": [0],
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
redis_socket_timeout = 10
redis_socket_connect_timeout = 5
redis_socket_keepalive = True
broker_connection_retry_on_startup = True
broker_pool_limit = 10
# How many messages a worker holds is up to its `Intake`, after a connection was lost as before.
worker_prefetch_multiplier = env_int("CELERY_PREFETCH", 1, minimum=1)
worker_enable_prefetch_count_reduction = False
worker_hijack_root_logger = False
worker_send_task_events = env_bool("CELERY_TASK_EVENTS", default=False)
worker_soft_shutdown_timeout = float(env_int("CELERY_SOFT_SHUTDOWN_SECONDS", 20))
