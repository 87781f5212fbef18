from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import workers


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def cluster(django_db_setup: None, log_dir: Path) -> Iterator[None]:
    """Two workers and the control worker, as a small installation has them."""
    with (
        workers.control("control", log_dir),
        workers.agents("one", log_dir),
        workers.agents("two", log_dir),
    ):
        yield
