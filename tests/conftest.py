"""Shared fixtures. Servers come from tests/plugin.py; each xdist worker has its own database."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
from django.db import connections

from tests.factories import make_tenant
from tests.plugin import TEMPLATE, database_url
from tests.world import World

# A busy machine is slow; that is not what properties are about.
# The same examples on every machine; `make explore` looks for new ones.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile("same")

FOLDERS = ("unit", "property", "integration", "e2e", "browser", "load")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's folder is its marker; load tests run only when they are asked for by path."""
    for item in items:
        folder = Path(item.path).relative_to(Path(__file__).parent).parts[0]
        if folder in FOLDERS:
            item.add_marker(folder)


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: Any) -> Iterator[None]:
    """Clone the migrated template as its owner; the application's role could not."""
    name = os.environ["DATABASE_URL"].rsplit("/", 1)[1]
    maintenance = database_url(os.environ["MIGRATION_DATABASE_URL"], "postgres")
    with psycopg.connect(maintenance, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"')
    yield
    with django_db_blocker.unblock():
        for alias in connections:
            connections[alias].close()
            connections[alias].close_pool()


@pytest.fixture
def live_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The database with real commits. Each test makes its own tenants, so none needs a flush."""
    with django_db_blocker.unblock():
        yield
        for alias in connections:
            connections[alias].close()


@pytest.fixture
def acme(live_db: None) -> World:
    return make_tenant("acme")


@pytest.fixture
def globex(live_db: None) -> World:
    return make_tenant("globex")
