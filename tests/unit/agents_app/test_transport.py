"""The connections that all tenants of a process share."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from agents_app.providers.transport import shared_client


class _Setting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        said = (self.headers.get("Cookie") or "none").encode()
        self.send_response(200)
        self.send_header("Set-Cookie", "session=acme; Path=/")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Setting) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_cookie_of_one_call_is_not_sent_with_the_next(address: str) -> None:
    assert [shared_client().get(address).text for _ in range(2)] == ["none", "none"]
