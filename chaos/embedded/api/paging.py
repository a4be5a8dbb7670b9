"""The continue tokens of lists in pieces. Pure; called by rest."""

from __future__ import annotations

import base64

import orjson

from chaos.embedded.api.errors import bad_request


def write_continue(version: int, key: tuple[str, str]) -> str:
    return (
        base64.urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": key}))
        .decode()
        .rstrip("=")
    )


def read_continue(token: str) -> tuple[int, tuple[str, str]]:
    why = "invalid continue token: continue key is not valid: "
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        bad = next((index for index, char in enumerate(token) if not (char.isalnum() or char in "-_")), len(token))
        raise bad_request(f"{why}illegal base64 data at input byte {bad}") from None
    try:
        value = orjson.loads(raw)
        version, (namespace, name) = int(value["rv"]), value["start"]
        return version, (str(namespace), str(name))
    except (ValueError, TypeError, KeyError, AttributeError):
        first = raw[:1].decode(errors="replace")
        raise bad_request(f"{why}invalid character '{first}' looking for beginning of value") from None
