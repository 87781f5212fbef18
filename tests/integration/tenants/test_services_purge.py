import uuid
from datetime import datetime, timedelta

import pytest
from django.contrib.sessions.models import Session

from tenants.kernel.clock import now
from tenants.models import IdempotencyRecord
from tenants.services.purge import purge_expired
from tests.world import World

PAST, FUTURE = timedelta(minutes=-1), timedelta(minutes=1)


def record(world: World, expires_at: datetime) -> IdempotencyRecord:
    with world.scope():
        return IdempotencyRecord.objects.create(
            principal="test",
            key=uuid.uuid4().hex,
            fingerprint=b"",
            status=201,
            expires_at=expires_at,
        )


def session(expires_at: datetime) -> Session:
    return Session.objects.create(session_key=uuid.uuid4().hex, expire_date=expires_at)


def remaining(*rows: IdempotencyRecord | Session) -> list[bool]:
    return [
        type(row)._default_manager.db_manager("system").filter(pk=row.pk).exists() for row in rows
    ]


@pytest.fixture(autouse=True)
def nothing_expired(live_db: None) -> None:
    while purge_expired():
        pass


def test_what_expired_goes_and_the_rest_stays(acme: World, globex: World) -> None:
    expired = (record(acme, now() + PAST), record(globex, now() + PAST), session(now() + PAST))
    kept = (record(acme, now() + FUTURE), session(now() + FUTURE))

    assert purge_expired() == 3

    assert remaining(*expired) == [False] * 3
    assert remaining(*kept) == [True] * 2


def test_each_call_is_bounded_and_takes_the_oldest_first(acme: World) -> None:
    newer, older = record(acme, now() + PAST), record(acme, now() + 2 * PAST)
    sessions = session(now() + 2 * PAST), session(now() + PAST)

    assert purge_expired(batch=1) == 2
    assert remaining(older, newer, *sessions) == [False, True, False, True]
    assert [purge_expired(batch=1), purge_expired(batch=1)] == [2, 0]


def test_call_inside_a_tenants_scope_touches_the_others_too(acme: World, globex: World) -> None:
    expired = record(globex, now() + PAST)

    with acme.scope():
        purge_expired()

    assert remaining(expired) == [False]
