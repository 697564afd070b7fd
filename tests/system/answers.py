"""An HTTP server for tests of the client: it answers as it is told, also as no real scheduler does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Status, headers, body. None: the connection is closed without an answer.
Reply = tuple[int, dict[str, str], bytes] | None


class Stub:
    """An HTTP server on a free port. `answer` is asked for each request: (method, path, body) -> reply."""

    def __init__(self) -> None:
        self.answer: Callable[[str, str, bytes], Reply] = lambda *_: (200, {}, b"{}")
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        # Whether it closes each connection after one answer, and without a word.
        self.hasty = False
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                stub.connections += 1

            def do_GET(self) -> None:
                stub.asked.append((self.command, self.path))
                stub.headers.append(dict(self.headers))
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                reply = stub.answer(self.command, self.path, body)
                if reply is None:
                    self.close_connection = True
                    return
                status, headers, content = reply
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = stub.hasty

            do_POST = do_GET  # noqa: N815 (the name that the library asks for)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def shutdown_request(self, request: Any) -> None:
                super().shutdown_request(request)
                stub.closed.set()

        # Whether the server has closed a connection.
        self.closed = threading.Event()
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def as_json(value: object, status: int = 200, **headers: str) -> Reply:
    return status, headers, json.dumps(value).encode()


def problem(status: int, code: str, **headers: str) -> Reply:
    return as_json(
        {"error": f"it is {code}", "code": code}, status, **{k.replace("_", "-"): v for k, v in headers.items()}
    )


def following(path: str) -> str:
    """The header of a list that goes on there."""
    return f'<{path}>; rel="next"'


def replies(*given: Reply) -> Callable[[str, str, bytes], Reply]:
    """One reply after the other; the last for ever."""
    left = list(given)
    return lambda *_: left.pop(0) if len(left) > 1 else left[0]
