"""Idempotency-Key: a POST that is sent again does nothing again, and answers the same.

The answer is stored in the transaction of what it tells about, so neither exists without the
other. Only successes are kept: a refusal changed nothing, and its repeat may well succeed.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any, ClassVar

from django.db import connection
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.kernel.clock import now
from tenants.kernel.errors import PlatformError
from tenants.models import IdempotencyRecord
from tenants.principals import Principal

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
KEPT_FOR = timedelta(hours=48)
_KEY = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,254}")


class IdempotencyKeyInvalidError(PlatformError):
    code: ClassVar[str] = "idempotency_key_invalid"

    def __str__(self) -> str:
        return "An Idempotency-Key has 1 to 255 printable ASCII characters."


class IdempotencyKeyInUseError(PlatformError):
    code: ClassVar[str] = "idempotency_key_in_use"
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return "A request with this Idempotency-Key is in progress; ask again when it has ended."


class IdempotencyKeyReusedError(PlatformError):
    code: ClassVar[str] = "idempotency_key_reused"

    def __str__(self) -> str:
        return "This Idempotency-Key was used for another request; use a fresh one for each."


def answer_once(
    request: Request,
    work: Callable[[], Response],
    *,
    principal: Principal,
    secrets: Collection[str] = (),
) -> Response:
    """Do the work, unless the request's key has done it before.

    Keys belong to who sends them. Top-level fields named in `secrets` are not stored: a
    repeat answers them with null.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return work()
    _hold(f"{principal.tenant_id}:{_owner(principal)}:{key}")
    # Read before the work is done, which takes the body away.
    fingerprint = _fingerprint(request)
    before = answered_before(request, principal=principal)
    if before is not None:
        return before
    response = work()
    if response.status_code < 400:
        _keep(
            response,
            owner=_owner(principal),
            key=key,
            fingerprint=fingerprint,
            secrets=secrets,
        )
    return response


def answered_before(request: Request, *, principal: Principal) -> Response | None:
    """The answer that the request's key was given before, if it has one and was."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise IdempotencyKeyInvalidError
    record = IdempotencyRecord.objects.filter(
        principal=_owner(principal), key=key, expires_at__gt=now()
    ).first()
    return None if record is None else _repeated(record, _fingerprint(request))


def _owner(principal: Principal) -> str:
    return f"{principal.actor_kind}:{principal.actor_id}"


def _hold(name: str) -> None:
    """Until the transaction ends. One who held it before has committed, so its record shows."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [name])
        (is_ours,) = cursor.fetchone()
    if not is_ours:
        raise IdempotencyKeyInUseError


def _fingerprint(request: Request) -> bytes:
    head = f"{request.method} {request.get_full_path()} {request.content_type}\n"
    return hashlib.sha256(head.encode() + request.body).digest()


def _repeated(record: IdempotencyRecord, fingerprint: bytes) -> Response:
    if bytes(record.fingerprint) != fingerprint:
        raise IdempotencyKeyReusedError
    headers = {REPLAYED: "true"}
    if record.location:
        headers["Location"] = record.location
    return Response(record.body, status=record.status, headers=headers)


def _keep(
    response: Response, *, owner: str, key: str, fingerprint: bytes, secrets: Collection[str]
) -> None:
    record = IdempotencyRecord(
        principal=owner,
        key=key,
        fingerprint=fingerprint,
        status=response.status_code,
        body=_without(secrets, _plain(response.data)),
        location=response.headers.get("Location", ""),
        expires_at=now() + KEPT_FOR,
    )
    # An expired record of the same key gives way.
    IdempotencyRecord.objects.bulk_create(
        [record],
        update_conflicts=True,
        unique_fields=["tenant", "principal", "key"],
        update_fields=["fingerprint", "status", "body", "location", "expires_at", "updated_at"],
    )


def _plain(data: Any) -> Any:
    return None if data is None else json.loads(JSONRenderer().render(data))


def _without(secrets: Collection[str], body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    return {key: None if key in secrets else value for key, value in body.items()}
