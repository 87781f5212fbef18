import pytest

from tests.model_servers import llmock, smollm2


@pytest.fixture(scope="session")
def smollm2_url():
    with smollm2() as url:
        yield url


@pytest.fixture(scope="session")
def _llmock_server():
    with llmock() as server:
        yield server


@pytest.fixture
def llmock_server(_llmock_server):
    yield _llmock_server
    _llmock_server.state.scenarios.clear()
