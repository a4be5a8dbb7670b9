"""Credentials of the client: a kubeconfig's, or a pod's own service account."""

from __future__ import annotations

import ipaddress
import os
import time
from pathlib import Path
from typing import Any, Final

import urllib3

from chaos.errors import EnvironmentUnfit
from chaos.kube.kubeconfig import load_kubeconfig

CONNECTIONS: Final = 32


ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # of a pod, where it has one


class Token:
    """A service account's token, read again each minute: the kubelet replaces it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._text = ""
        self._until = 0.0

    def read(self) -> str:
        if time.monotonic() >= self._until:
            self._text, self._until = self._file.read_text().strip(), time.monotonic() + 60
        return self._text


def in_pod() -> tuple[str, urllib3.PoolManager, Token]:
    """Configure the client from inside a pod, as the official `load_incluster_config` does, without importing that
    client: the control plane and the agents start while everything else does, and the import is most of their start.
    """
    folder = ACCOUNT
    try:
        address = ipaddress.ip_address(os.environ["KUBERNETES_SERVICE_HOST"])
        host = f"[{address}]" if address.version == 6 else str(address)
        url = f"https://{host}:{os.environ['KUBERNETES_SERVICE_PORT']}"
        token = Token(folder / "token")
        token.read()
        pool = urllib3.PoolManager(maxsize=CONNECTIONS, ca_certs=str(folder / "ca.crt"), retries=urllib3.Retry(total=0))
    except (KeyError, ValueError, OSError) as error:
        raise EnvironmentUnfit(f"no kubeconfig given, and this is not a pod with a service account: {error}") from error
    return url, pool, token


def configured(kubeconfig: Path | None, context: str | None) -> Any:
    configuration = load_kubeconfig(kubeconfig, context)
    configuration.connection_pool_maxsize = CONNECTIONS
    configuration.retries = urllib3.Retry(total=0)
    return configuration
