from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine_driver import open_limiter
from tests.talk import end_talks


@pytest.fixture(scope="session", autouse=True)
def _opened_limiter(django_db_setup: None, django_db_blocker: Any) -> None:
    """Before any run: a limiter that meets live ones on its start begins with empty buckets."""
    with django_db_blocker.unblock():
        open_limiter()


@pytest.fixture(autouse=True)
def _ended_talks(django_db_blocker: Any) -> Iterator[None]:
    yield
    with django_db_blocker.unblock():
        end_talks()
