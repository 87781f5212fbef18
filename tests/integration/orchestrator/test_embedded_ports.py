import socket

import pytest

from orchestrator.embedded.errors import EmbeddedError, PortTakenError
from orchestrator.embedded.ports import Claims, free_port, required_port
from orchestrator.embedded.stack import choose_ports


@pytest.fixture
def claims():
    acme, globex = Claims(), Claims()
    yield acme, globex
    acme.release()
    globex.release()


def test_a_preferred_port_in_use_gives_way_to_another():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert free_port(preferred=port) != port


def test_ports_lie_below_what_the_kernel_gives_to_connections():
    assert all(15000 <= free_port() < 32768 for _ in range(50))


def test_a_port_in_use_cannot_be_required():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortTakenError):
        required_port(taken.getsockname()[1], variable="PORT")


def test_two_supervisors_never_choose_the_same_port(claims):
    acme, globex = claims
    last = choose_ports({}, last_ports={}, claims=acme)

    other = choose_ports({}, last_ports=last, claims=globex)

    assert not set(last.values()) & set(other.values())


def test_a_released_claim_is_free_again(claims):
    acme, globex = claims
    port = free_port(may_have=acme.take)
    assert not globex.take(port)

    acme.release()

    assert globex.take(port)


@pytest.mark.parametrize("text", ["web", "0", "65536", "-1", "80.5", "8²"])
def test_what_is_no_port_number_is_refused(claims, text):
    with pytest.raises(EmbeddedError, match="is not a port number"):
        choose_ports({"PORT": text}, last_ports={}, claims=claims[0])
