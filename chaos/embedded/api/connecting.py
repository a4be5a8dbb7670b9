"""A connection into a pod as an admission request: operation CONNECT, with the options in its query. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from chaos.embedded.api.asked import Asked
from chaos.embedded.api.calls import Call
from chaos.embedded.api.options import is_true
from chaos.fields import whole_number

Values = Callable[[str, list[str]], list[str]]  # every value of a query's parameter, or what is given instead
_KINDS: Final = {
    "exec": "PodExecOptions",
    "attach": "PodAttachOptions",
    "portforward": "PodPortForwardOptions",
    "proxy": "PodProxyOptions",
}


def connecting(call: Call, values: Values, path: str) -> Asked:
    """The admission request of a connection; `path` is what a proxy asks for."""
    kind = _KINDS[call.subresource]
    if call.resource.kind == "Service":
        kind = "ServiceProxyOptions"
    options: dict[str, Any] = {"kind": kind, "apiVersion": "v1"}
    if call.subresource in ("exec", "attach"):
        options |= {name: True for name in ("stdin", "stdout", "stderr", "tty") if is_true(call.query, name)}
        if container := call.query.get("container"):
            options["container"] = container
        if command := values("command", []):
            options["command"] = list(command)
    elif call.subresource == "portforward":
        ports = [
            port for text in values("ports", []) for one in text.split(",") if (port := whole_number(one)) is not None
        ]
        options |= {"ports": ports} if ports else {}
    else:
        options["path"] = path
    return replace(call.asked("CONNECT", options, dry=False, kind=("", "v1", kind)), options=None)
