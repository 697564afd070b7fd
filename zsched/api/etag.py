"""ETag and If-None-Match (RFC 9110, 8.8.3 and 13.1.2): a caller that has the answer already gets 304 without a body.

The tag is a hash of the body and of the Link, which may appear while the rows of a page stay the same. So a repeated
call costs the database the same, and the network nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import falcon


class EntityTags:
    """Middleware for the JSON of GET and HEAD. An answer that must not be stored gets no tag."""

    def process_response(self, req: falcon.Request, resp: falcon.Response, _resource: object, _succeeded: bool) -> None:
        if req.method not in ("GET", "HEAD") or resp.content_type != falcon.MEDIA_JSON or resp.status_code != 200:
            return
        if "no-store" in (resp.cache_control or ""):
            return
        digest = blake2b((resp.get_header("Link") or "").encode(), digest_size=12)
        for piece in _pieces(resp):
            digest.update(piece)
        resp.etag = tag = digest.hexdigest()
        asked = req.if_none_match
        if asked is not None and ("*" in asked or tag in asked):
            resp.status = falcon.HTTP_304
            resp.data = resp.stream = resp.content_type = resp.content_length = None


def _pieces(resp: falcon.Response) -> Iterable[bytes]:
    """The body. A large page has it in pieces (pages.py)."""
    if resp.data is not None:
        return (resp.data,)
    pieces = resp.stream
    assert pieces is None or isinstance(pieces, list)
    return pieces or ()
