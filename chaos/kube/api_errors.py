"""An API server's error answers as exceptions. Pure; called by the client."""

from __future__ import annotations

import json

from chaos.errors import AlreadyExists, ApiError, Conflict, Forbidden, NotFound


def api_error(method: str, path: str, code: int, text: bytes, retry_after: str | None = None) -> ApiError:
    try:
        status = json.loads(text)
        assert isinstance(status, dict)
    except (ValueError, AssertionError):
        status = {}
    message = status.get("message") or text.decode(errors="replace").strip()[:300] or "no message"
    if code == 401:
        message += ": the credentials were read again and are still refused: they have expired, or were revoked"
    seconds = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
    text_of, reason = f"{method} {path}: {code}: {message}", str(status.get("reason", ""))
    return kind_of(code, reason)(text_of, code=code, reason=reason, status=status, retry_after=seconds)


def kind_of(code: int, reason: str) -> type[ApiError]:
    if reason == "AlreadyExists":
        return AlreadyExists
    return {403: Forbidden, 404: NotFound, 409: Conflict}.get(code, ApiError)
