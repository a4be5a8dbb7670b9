"""HTTP responses in the forms that clients ask for. Pure; called by the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from chaos.embedded.api import negotiate
from chaos.embedded.api.errors import StatusError, no_such_path
from chaos.embedded.api.negotiate import Media

_ALL_WARNINGS, _LONG_WARNING = 4096, 256  # characters, as k8s.io/apiserver's recorder counts them


def written_response(body: Any, media: Media, code: int = 200) -> web.Response:
    content, kind = negotiate.written(body, media)
    headers = {"Content-Type": kind, "Cache-Control": "no-cache, private"}
    return web.Response(body=content, status=code, headers=headers)


def warn(response: web.StreamResponse, texts: Sequence[str]) -> None:
    """Add warnings as headers: all, or the beginnings of the first when they are too long together."""
    if sum(map(len, texts)) > _ALL_WARNINGS:
        texts = [text[:_LONG_WARNING] for text in texts][: _ALL_WARNINGS // _LONG_WARNING]
    for text in texts:
        response.headers.add("Warning", "299 - " + orjson.dumps(text).decode())


def form_of_errors(request: web.BaseRequest) -> Media:
    """The form of an error: the answer's form, if possible."""
    try:
        return as_read(request, replace(negotiate.choose(request.headers.get("Accept", ""), text=True), clause=""))
    except StatusError:
        return as_read(request, Media())


def as_read(request: web.BaseRequest, media: Media) -> Media:
    return replace(media, pretty=negotiate.is_pretty(request.query, request.headers.get("User-Agent", "")))


def text_response(text: str, code: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-cache, private", "X-Content-Type-Options": "nosniff"}
    return web.Response(text=text, status=code, headers=headers)


def json_response(body: Any, code: int = 200, *, content_type: str = "application/json") -> web.Response:
    return web.Response(
        body=orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE),
        status=code,
        headers={"Content-Type": content_type, "Cache-Control": "no-cache, private"},
    )


def public_response(body: Any, content_type: str) -> web.Response:
    """A response that may be cached for an hour, as for Kubernetes' issuer documents."""
    headers = {"Content-Type": content_type, "Cache-Control": "public, max-age=3600"}
    return web.Response(body=orjson.dumps(body), headers=headers)


def found_response(body: Any) -> web.Response:
    if body is None:
        raise no_such_path()
    return json_response(body)
