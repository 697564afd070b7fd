"""Who holds the other end of a connection over loopback, by the kernel's word and by its tables."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from tests.system.session import until
from zsched.security import peer
from zsched.security.peer import End, end
from zsched.worker.agent.enrol import EnrolError, enrol

NOBODY = 65_534
# linux/tcp_states.h
SYN_SENT = 2
WAYS: dict[str, Callable[[End, End], int | None]] = {"netlink": peer._by_netlink, "table": peer._by_table}
# What the server is bound to, what the caller calls.
PLACES = [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")]

OTHER_USER = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))):
    sys.stdin.read()
"""

# Takes the port of a scheduler that is down, and says what it hears.
SQUATTER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
print("heard", listener.accept()[0].recv(100), flush=True)
"""


@pytest.fixture(params=PLACES, ids=" called ".join)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    bound, called = request.param
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    try:
        listener = socket.create_server((bound, 0), family=family, dualstack_ipv6=bound == "::")
    except OSError as error:
        pytest.skip(f"no {bound} here: {error}")
    with listener:
        yield listener, called


def ends(accepted: socket.socket, address: tuple[str, int]) -> tuple[End, End]:
    return end(*address[:2]), end(*accepted.getsockname()[:2])


@pytest.mark.parametrize("way", WAYS)
def test_caller_uid_is_known_while_it_holds_its_end(place: tuple[socket.socket, str], way: str) -> None:
    listener, called = place
    caller = socket.create_connection((called, listener.getsockname()[1]))
    accepted, address = listener.accept()
    with accepted:
        ask = WAYS[way]
        both = ends(accepted, address)
        assert ask(*both) == os.geteuid()
        caller.shutdown(socket.SHUT_WR)
        assert ask(*both) == os.geteuid()
        # Our own end is no caller's, and the pair of another connection is none.
        assert ask(both[0], both[1]._replace(port=1)) is None
        caller.close()
        # By a socket that nobody has any more it would be user 0, who may do all.
        assert ask(*both) is None
        assert peer.uid_of(*both) is None


@pytest.mark.parametrize("way", WAYS)
def test_socket_that_still_connects_is_nobodys_end(way: str) -> None:
    """It may have the port of a caller whose reset has not been seen yet."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as held:
        callers = [held.enter_context(socket.socket()) for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            with suppress(BlockingIOError):
                caller.connect(listener.getsockname())
        waiting = [one for one in callers if one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == SYN_SENT]
        assert waiting
        for caller in waiting:
            assert WAYS[way](end(*caller.getsockname()), end(*listener.getsockname())) is None


def test_own_end_is_connected_until_a_reset_though_the_caller_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            assert peer.connected(accepted)
            caller.shutdown(socket.SHUT_WR)
            assert accepted.recv(1) == b""
            assert peer.connected(accepted)
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            caller.close()
            until(lambda: not peer.connected(accepted))
        assert not peer.connected(accepted)


def test_look_ups_by_one_kept_socket_need_no_descriptor(place: tuple[socket.socket, str]) -> None:
    listener, called = place
    with socket.create_connection((called, listener.getsockname()[1])), peer.SockDiag() as kernel:
        accepted, address = listener.accept()
        with accepted, ThreadPoolExecutor(4) as threads:
            both = ends(accepted, address)
            stranger = (both[0], both[1]._replace(port=1))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            threads.submit(lambda: None).result()
            # No more than the standard files, which are open.
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                # Each thread gets its own answer.
                asked = [both, stranger] * 200
                found = list(threads.map(lambda one: peer.uid_of(one[0], one[1], kernel), asked))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert found == [os.geteuid(), None] * 200


def test_caller_that_sends_and_leaves_has_no_uid(place: tuple[socket.socket, str]) -> None:
    listener, called = place
    for _ in range(20):
        with socket.create_connection((called, listener.getsockname()[1])) as caller:
            caller.sendall(b"x" * 100)
        accepted, address = listener.accept()
        with accepted:
            assert peer.uid_of(*ends(accepted, address)) is None


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can be another user")
@pytest.mark.parametrize("way", WAYS)
def test_other_user_is_distinguished_from_root(place: tuple[socket.socket, str], way: str) -> None:
    listener, called = place
    words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", os.path.realpath(sys.executable)]
    if subprocess.run([*words, "-I", "-c", ""], check=False, capture_output=True).returncode != 0:
        pytest.skip(f"{words[-1]} lies where another user can't run it")
    port = str(listener.getsockname()[1])
    with subprocess.Popen([*words, "-I", "-c", OTHER_USER, called, port], stdin=subprocess.PIPE) as other:
        listener.settimeout(20)
        accepted, address = listener.accept()
        with accepted:
            both = ends(accepted, address)
            assert WAYS[way](*both) == NOBODY
            other.kill()
            other.wait()
            until(lambda: peer.uid_of(*both) is None)


def test_where_the_kernel_may_not_be_asked_the_table_tells(
    place: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: End) -> int | None:
        raise PermissionError

    monkeypatch.setattr(peer, "_by_netlink", forbidden)
    listener, called = place
    with socket.create_connection((called, listener.getsockname()[1])) as caller:
        accepted, address = listener.accept()
        with accepted:
            assert peer.uid_of(*ends(accepted, address)) == os.geteuid()
        with suppress(OSError):
            caller.shutdown(socket.SHUT_RDWR)


def test_invalid_connection_has_no_uid() -> None:
    for ask in WAYS.values():
        assert ask(end("127.0.0.1", 1), end("127.0.0.1", 2)) is None
        assert ask(end("::1", 1), end("::1", 2)) is None


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can be another user, by setpriv(1)"
)
def test_worker_says_nothing_to_another_user_on_the_port_of_its_scheduler() -> None:
    """System Python, since other users may not enter the folder of ours."""
    words = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "python3", "-c", SQUATTER]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env={"PATH": os.defpath}) as squatter:
        assert squatter.stdout is not None
        port = int(squatter.stdout.readline())
        with pytest.raises(EnrolError, match=f"user {NOBODY} listens at"):
            enrol(f"http://127.0.0.1:{port}", "w1", "key", "", timeout_s=3)
        assert squatter.stdout.readline() == b"heard b''\n"
