"""This process's limiter."""

import os
from functools import cache
from typing import Final
from uuid import uuid4

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.limits.books import Ledger
from orchestrator.limits.limiter import Limits
from orchestrator.limits.local import LocalLimiter
from orchestrator.limits.scopes import limits_of
from orchestrator.limits.store import Store

# Longer than any pause of a healthy server; a call waits for it before it is told to wait.
_PATIENCE_SECONDS: Final = 2.0
FALLBACK_LOCAL: Final = "local"


@cache
def limits() -> Limits:
    """The limiter, with connections of its own."""
    lease_us = lease_seconds() * 1_000_000
    is_local = settings.MUSTER_LIMITER_FALLBACK == FALLBACK_LOCAL
    return Limits(
        Store(redis_client(), token=uuid4().hex, lease_us=lease_us),
        books=Ledger(),
        limits_of=limits_of,
        local=LocalLimiter(lease_us=lease_us) if is_local else None,
    )


def lease_seconds() -> int:
    """A place outlives the step's lease, within which the engine notices that its holder died."""
    return 2 * int(settings.MUSTER_LEASE_SECONDS)


@cache
def redis_client() -> redis.Redis:
    """The client of all that this process asks the limiter's server."""
    pool = redis.BlockingConnectionPool.from_url(
        settings.REDIS_URL,
        max_connections=settings.MUSTER_LIMITER_CONNECTIONS,
        timeout=_PATIENCE_SECONDS,
        socket_timeout=_PATIENCE_SECONDS,
        socket_connect_timeout=_PATIENCE_SECONDS,
        # A lost reply is asked for again: grants and settlements count once.
        retry=Retry(NoBackoff(), 1),
        health_check_interval=30,
    )
    return redis.Redis(connection_pool=pool)


# A fork must not share its parent's connections and locks.
os.register_at_fork(after_in_child=limits.cache_clear)
os.register_at_fork(after_in_child=redis_client.cache_clear)
