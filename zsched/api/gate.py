"""Who may call: until there are keys, only programs on this very host, and no web page in somebody's browser.

Submitting a job is running a shell command, so this stands in front of every handler. A caller is local when both ends
of its connection are loopback addresses, it speaks to us by a local name (a page that rebinds its DNS name does not),
no other site's page sent it, and no proxy stands between.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

import falcon

from zsched.api.problem import Problem

# Set by the server on each request: the address that the caller connected to.
LOCAL_ADDRESS: Final = "zsched.local_address"

_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
# Headers that proxies add, as WSGI names them; X-Forwarded-For has a whole family.
_FORWARDING: Final = ("HTTP_FORWARDED", "HTTP_X_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA")
_REMEDY: Final = (
    "Without a token zsched serves only programs on its own host:"
    " call it there as http://localhost, for example through `ssh -L 8080:localhost:8080 HOST`"
)


class Gate:
    """Falcon middleware."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Raise the 403 Problem `protected_mode` unless the caller is local."""
        resp.set_header("X-Content-Type-Options", "nosniff")
        if req.path in _OPEN_PATHS:
            return
        why = foreign(req)
        if why is not None:
            raise Problem(403, "protected_mode", f"{why}. {_REMEDY}")


def foreign(req: falcon.Request) -> str | None:
    """What shows that a caller is not local; None when it is."""
    if not (_loopback(req.env.get("REMOTE_ADDR")) and _loopback(req.env.get(LOCAL_ADDRESS))):
        return "The call comes from another host"
    host = req.get_header("Host") or ""
    if _name(host) not in _LOCAL_NAMES:
        return "The Host header is not localhost, 127.0.0.1 or [::1]"
    origin = req.get_header("Origin")
    if origin is not None and origin != f"http://{host}":
        return "The call comes from another site's page (Origin)"
    if req.get_header("Sec-Fetch-Site") in ("cross-site", "same-site"):
        return "The call comes from another site's page (Sec-Fetch-Site)"
    if any(name.startswith(_FORWARDING) for name in req.env):
        return "The call was forwarded by a proxy"
    return None


def _name(host: str) -> str:
    """A Host header without its port, in lower case."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _loopback(address: object) -> bool:
    try:
        parsed = ip_address(str(address))
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
