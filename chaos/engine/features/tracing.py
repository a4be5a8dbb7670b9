"""Checks that W3C trace context passes: the server sees the trace that the client began, with its own span."""

from __future__ import annotations

import json
import secrets

from chaos.engine.features.context import CheckContext
from chaos.verdict.check import Check, decided


def check_tracing(context: CheckContext) -> list[Check]:
    """Send a traceparent, and read what arrived."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    (reply,) = context.call(context.client, path="/headers", headers={"traceparent": f"00-{trace}-{span}-01"})
    seen = json.loads(reply.body or "{}").get("headers", {}).get("traceparent", "") if reply.status == 200 else ""
    arrived = seen.split("-")[1:3]
    return [
        decided(
            "trace context goes through",
            len(arrived) == 2 and arrived[0] == trace and arrived[1] != span,
            f"sent trace {trace} span {span}, the server saw {seen or 'none'}",
        )
    ]
