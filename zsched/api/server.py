"""Waitress around the app: bounds, the address that a caller reached us by, and our error body also for what Waitress
refuses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import waitress.channel
import waitress.server
import waitress.task
from waitress import wasyncore

from zsched.api.gate import LOCAL_ADDRESS
from zsched.api.problem import Problem, render
from zsched.limits import CONNECTIONS_MAX, HEADER_BYTES_MAX, IDLE_CONNECTION_S, JOBS_BODY_BYTES_MAX

# Waitress reads a body to its end before the app sees the request; a little more than the largest that any endpoint
# takes lets the endpoint itself say what its bound is.
_BODY_BYTES_MAX = JOBS_BODY_BYTES_MAX + 1024 * 1024


class _Task(waitress.task.WSGITask):  # type: ignore[misc]
    """A request, with the address that the caller reached us by."""

    def get_environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = super().get_environment()
        environment[LOCAL_ADDRESS] = self.channel.local_address
        return environment


class _ErrorTask(waitress.task.ErrorTask):  # type: ignore[misc]
    """A request that Waitress refuses, answered in the one error body."""

    def execute(self) -> None:
        error = self.request.error
        code = {413: "too_large", 431: "headers_too_large"}.get(error.code, "invalid_request")
        body, media = render(Problem(error.code, code, f"{error.reason}: {error.body}"), "", "")
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", media))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(waitress.channel.HTTPChannel):  # type: ignore[misc]
    task_class = _Task
    error_task_class = _ErrorTask

    def __init__(self, server: Any, sock: Any, *rest: Any, **named: Any) -> None:
        # Asked once for each connection, while it certainly exists.
        self.local_address = sock.getsockname()[0]
        super().__init__(server, sock, *rest, **named)


class Server:
    """The REST server, in threads of its own from `start` to `stop`."""

    def __init__(self, app: Any, host: str, port: int, threads: int) -> None:
        """Bind; port 0 takes any free one. Raises OSError when it can't be bound."""
        try:
            self._server = waitress.server.create_server(
                app,
                host=host,
                port=port,
                threads=threads,
                ident=None,
                clear_untrusted_proxy_headers=False,
                max_request_body_size=_BODY_BYTES_MAX,
                max_request_header_size=HEADER_BYTES_MAX,
                connection_limit=CONNECTIONS_MAX,
                channel_timeout=IDLE_CONNECTION_S,
                asyncore_use_poll=True,
            )
        # Waitress says ValueError for a host that has no address.
        except (OSError, ValueError) as error:
            raise OSError(f"can't listen for REST on {host}:{port} (host, port): {error}") from None
        self._all = _listeners(self._server)
        for listener in self._all:
            listener.channel_class = _Channel
        self._thread = threading.Thread(target=self._server.run, name="rest", daemon=True)

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._all[0].effective_port)

    def start(self) -> None:
        self._thread.start()

    def close_door(self) -> None:
        """Accept no more connections; those that are open are served on."""
        self._in_thread(lambda: [wasyncore.dispatcher.close(listener) for listener in self._all])

    def stop(self) -> None:
        """Wait for requests under way, a second at most, and end."""
        listener = self._all[0]
        listener.task_dispatcher.shutdown(cancel_pending=True, timeout=1)
        self._in_thread(lambda: wasyncore.close_all(listener._map))
        self._thread.join(1)

    def _in_thread(self, act: Callable[[], object]) -> None:
        """Do something in the server's own thread, which alone may touch its connections."""
        self._all[0].trigger.pull_trigger(act)


def _listeners(server: Any) -> list[Any]:
    """Waitress makes one listener, or for a name with several addresses a list behind one front."""
    if isinstance(server, waitress.server.MultiSocketServer):
        return [one for one in server.map.values() if isinstance(one, waitress.server.BaseWSGIServer)]
    return [server]
