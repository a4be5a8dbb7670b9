"""Why an API server was not reached, in one sentence, and a first word with it that is short in any case."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any, Final

import urllib3

from chaos.errors import ApiError, EnvironmentUnfit, Forbidden, Unreachable
from chaos.kube.kubeconfig import one_line, within

if TYPE_CHECKING:
    from chaos.kube.client import Cluster

FIRST_SECONDS: Final = 5.0  # all in all, before whoever waits is told
_TRY_SECONDS: Final = 3.5


def first_word(cluster: Cluster) -> dict[str, Any]:
    """The answer of `/version`, within five seconds; raises EnvironmentUnfit that says why there is none."""
    patience, cluster.patience = cluster.patience, 1.0
    try:
        answer = within(FIRST_SECONDS, lambda: cluster.request("GET", "/version", timeout=_TRY_SECONDS))
    except TimeoutError as error:
        raise Unreachable(f"{cluster.host}: no answer within {FIRST_SECONDS:g} s{_HINT}") from error
    except ApiError as error:
        raise EnvironmentUnfit(f"{cluster.name}: {_refused(error)}") from error
    finally:
        cluster.patience = patience
    if not isinstance(answer, dict):
        raise EnvironmentUnfit(f"{cluster.host}/version: answers {answer!r:.60}: is a Kubernetes API server there?")
    return answer


_HINT: Final = ": is the cluster up, and its address that of the kubeconfig?"


def unreachable(host: str, error: BaseException) -> Unreachable:
    """The error as one sentence: what was tried, what was seen, what to look at."""
    return Unreachable(f"{host}: {_why(error)}")


def _why(error: BaseException) -> str:
    """The cause that lies deepest, in words."""
    cause = error
    while isinstance(cause, urllib3.exceptions.MaxRetryError) and cause.reason is not None:
        cause = cause.reason
    match cause:
        case urllib3.exceptions.ProxyError():
            return f"the proxy on the way does not answer: {one_line(cause)}: see proxy-url, HTTPS_PROXY and NO_PROXY"
        case urllib3.exceptions.SSLError() | ssl.SSLError():
            return f"{one_line(cause)}: is certificate-authority-data that of this cluster?"
        case urllib3.exceptions.NameResolutionError() | socket.gaierror():
            return f"its name is not known here{_HINT}"
        case urllib3.exceptions.NewConnectionError():  # before the time-out, whose kind it is
            words = one_line(cause).rpartition(": ")[2]
            return f"{words.rpartition('] ')[2]}{_HINT}"
        case urllib3.exceptions.ConnectTimeoutError():
            return f"no connection within the time-out{_HINT}"
        case urllib3.exceptions.ReadTimeoutError() | TimeoutError():
            return f"connected, and no answer within the time-out{_HINT}"
        case _:
            return f"the connection broke: {one_line(cause)}"


def _refused(error: ApiError) -> str:
    if error.code == 401:
        return f"the API server does not take these credentials ({error})"
    if isinstance(error, Forbidden):
        return f"the API server does not let this user in ({error})"
    return str(error)
