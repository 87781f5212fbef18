from typing import Any

import pytest

from tests.engine_driver import open_limiter


@pytest.fixture(scope="session", autouse=True)
def _opened_limiter(django_db_setup: None, django_db_blocker: Any) -> None:
    """Before any run: a limiter that meets live ones on its start begins with empty buckets."""
    with django_db_blocker.unblock():
        open_limiter()
