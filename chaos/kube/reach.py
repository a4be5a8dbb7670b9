"""Says in one sentence why an API server was not reached."""

from __future__ import annotations

import socket
import ssl
from typing import Final

import urllib3

from chaos.errors import Unreachable
from chaos.kube.kubeconfig import one_line

HINT: Final = ": is the cluster up, and its address that of the kubeconfig?"


def unreachable(host: str, error: BaseException) -> Unreachable:
    """Return the error as one sentence: what was tried, what was seen, what to check."""
    return Unreachable(f"{host}: {_why(error)}")


def unanswered(error: urllib3.exceptions.HTTPError) -> str:
    """Say in one sentence which request of ours to the API server, or through it to a pod, had no answer, and why."""
    asked = (
        f"{error.url.partition('?')[0]}: " if isinstance(error, urllib3.exceptions.MaxRetryError) and error.url else ""
    )
    return f"{asked}{_why(error)}"


def _why(error: BaseException) -> str:
    """Return the innermost cause, in words."""
    cause = error
    while isinstance(cause, urllib3.exceptions.MaxRetryError) and cause.reason is not None:
        cause = cause.reason
    match cause:
        case urllib3.exceptions.ProxyError():
            return f"the proxy on the way does not answer: {one_line(cause)}: see proxy-url, HTTPS_PROXY and NO_PROXY"
        case urllib3.exceptions.SSLError() | ssl.SSLError():
            return f"{one_line(cause)}: is certificate-authority-data that of this cluster?"
        case urllib3.exceptions.NameResolutionError() | socket.gaierror():
            return f"its name is not known here{HINT}"
        case urllib3.exceptions.NewConnectionError():  # before the time-out, whose kind it is
            words = one_line(cause).rpartition(": ")[2]
            return f"{words.rpartition('] ')[2]}{HINT}"
        case urllib3.exceptions.ConnectTimeoutError():
            return f"no connection within the time-out{HINT}"
        case urllib3.exceptions.ReadTimeoutError() | TimeoutError():
            return "connected, and no answer within the time-out: is it down, or too busy?"
        case _:
            return f"the connection broke: {one_line(cause)}"
