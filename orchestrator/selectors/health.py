"""Whether this installation can work. Asked by load balancers, so each answer is short-lived."""

import threading
from functools import cache

import psycopg
import redis
from cachetools import TTLCache, cached
from celery import current_app
from django.conf import settings
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from orchestrator.limits.process import redis_client
from orchestrator.limits.store import may_evict

_PATIENCE_SECONDS = 1
# A probe a second per address is plenty; others in between get the last answer.
_REMEMBERED_SECONDS = 1


@cached(TTLCache(maxsize=1, ttl=_REMEMBERED_SECONDS), lock=threading.Lock())
def database_problem() -> str | None:
    """Why no request can be served, or None."""
    try:
        applied = _applied_migrations()
    except psycopg.Error as error:
        return f"the database cannot be reached: {type(error).__name__}"
    missing = _known_migrations() - applied
    if missing:
        return f"{len(missing)} migrations are missing; run manage.py migrate"
    return None


@cached(TTLCache(maxsize=1, ttl=_REMEMBERED_SECONDS), lock=threading.Lock())
def degraded_parts() -> tuple[str, ...]:
    """What is away although runs can be accepted: `redis`, `workers`, or `limiter`."""
    if not _redis_answers():
        return ("redis", "workers")
    workers = () if _a_worker_answers() else ("workers",)
    return (*workers, "limiter") if _redis_may_evict() else workers


def _applied_migrations() -> set[tuple[str, str]]:
    # A connection of its own: a pool that is busy, or waits for a dead server, blocks for long.
    parameters = {**connections["default"].get_connection_params(), "connect_timeout": 2}
    parameters.pop("cursor_factory", None)
    with psycopg.connect(**parameters, autocommit=True) as connection:
        return set(connection.execute("SELECT app, name FROM django_migrations").fetchall())


@cache
def _known_migrations() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None).disk_migrations)


def _redis_answers() -> bool:
    return all(_pings(url) for url in {settings.REDIS_URL, settings.CELERY_BROKER_URL})


def _pings(url: str) -> bool:
    client = redis.Redis.from_url(
        url, socket_connect_timeout=_PATIENCE_SECONDS, socket_timeout=_PATIENCE_SECONDS
    )
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _redis_may_evict() -> bool:
    try:
        return may_evict(redis_client())
    except redis.RedisError:
        return False


def _a_worker_answers() -> bool:
    return bool(current_app.control.ping(timeout=_PATIENCE_SECONDS, limit=1))
