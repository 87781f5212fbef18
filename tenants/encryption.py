"""Secrets as the database keeps them: encrypted, each tied to the row that it belongs to.

The newest of CREDENTIALS_KEYS writes, all of them read. Which one a secret was written with
stands beside it, so that a key that is gone is told without trying.
"""

import hashlib
from functools import lru_cache
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from tenants.errors import EncryptionOffError, SecretUnreadableError

# As a column gives it.
Stored = bytes | memoryview

_SEPARATOR = b":"


def newest_key_id() -> str:
    """What `encrypted` writes with. Raises EncryptionOffError without any key."""
    keys = settings.CREDENTIALS_KEYS
    if not keys:
        raise EncryptionOffError
    return _key_id(keys[0])


def is_readable(key_id: str) -> bool:
    return key_id in {_key_id(key) for key in settings.CREDENTIALS_KEYS}


def encrypted(secret: str, *, owner: UUID) -> bytes:
    return _fernets().encrypt(owner.bytes + _SEPARATOR + secret.encode())


def decrypted(token: Stored, *, owner: UUID) -> str:
    """The secret of this row. SecretUnreadableError also for one that was copied from another."""
    try:
        opened = _fernets().decrypt(bytes(token))
    except InvalidToken:
        raise SecretUnreadableError from None
    row, secret = opened[: len(owner.bytes)], opened[len(owner.bytes) + len(_SEPARATOR) :]
    if row != owner.bytes:
        raise SecretUnreadableError
    return secret.decode()


def encrypted_anew(token: Stored) -> bytes:
    """The same secret under the newest key. Raises SecretUnreadableError."""
    try:
        return _fernets().rotate(bytes(token))
    except InvalidToken:
        raise SecretUnreadableError from None


def _fernets() -> MultiFernet:
    keys = tuple(settings.CREDENTIALS_KEYS)
    if not keys:
        raise EncryptionOffError
    return _of_keys(keys)


@lru_cache(maxsize=4)
def _of_keys(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


@lru_cache(maxsize=16)
def _key_id(key: str) -> str:
    """Tells keys apart and nothing about them: they are random."""
    return hashlib.sha256(b"muster credentials " + key.encode()).hexdigest()[:12]
