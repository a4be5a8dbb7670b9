"""Turns a kubeconfig into the official client's Configuration, or says in one sentence what is wrong with it.

The client logs what a credential plugin says when it fails and goes on as nobody; here that is an error. It also takes
proxies from the environment by rules of its own; here they are those of `chaos.kube.proxies`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from chaos.documents import read_bytes, read_yaml, shown
from chaos.errors import EnvironmentUnfit, Misuse, SharedfateError
from chaos.kube.proxies import proxy_for

T = TypeVar("T")
_MOST_CREDENTIAL: Final = 1 << 20  # bytes of a certificate, a key or a token
CREDENTIAL_SECONDS: Final = 5.0  # a plugin that asks a cloud takes two or three


def load_kubeconfig(kubeconfig: Path | None, context: str | None) -> Any:
    """Return the official client's Configuration of a context (None: the current one; no kubeconfig: this pod's
    account).

    Raises EnvironmentUnfit, in one line, for a file that cannot be used and for credentials that cannot be had.
    """
    from kubernetes import client as k8s
    from kubernetes import config as k8s_config

    configuration = k8s.Configuration(proxy="", no_proxy="")

    def load() -> None:
        if kubeconfig is None:
            k8s_config.load_incluster_config(client_configuration=configuration)
        else:
            k8s_config.load_kube_config(
                str(kubeconfig), context=context, client_configuration=configuration, persist_config=False
            )

    what = f"kubeconfig {kubeconfig}" + (f", context {context}" if context else "")
    if kubeconfig is not None:
        _refuse_unreadable(kubeconfig)
    with _Heard() as heard:
        try:
            within(CREDENTIAL_SECONDS, load)
        except TimeoutError as error:
            raise EnvironmentUnfit(
                f"{what}: no credentials after {CREDENTIAL_SECONDS:g} s: does its credential plugin wait for somebody? "
                "`kubectl version` with the same context shows what it asks"
            ) from error
        except SharedfateError:
            raise
        except Exception as error:  # whatever a file that people wrote makes the client raise
            raise EnvironmentUnfit(f"cannot use {what}: {one_line(error)}") from error
    if heard.words:
        raise EnvironmentUnfit(f"{what}: its credentials cannot be obtained: {'; '.join(heard.words)}")
    try:
        configuration.proxy = proxy_for(configuration.host, os.environ, configured=configuration.proxy or "")
    except (AttributeError, TypeError, ValueError) as error:
        raise EnvironmentUnfit(f"{what}: server {configuration.host!r}: {one_line(error)}") from error
    if configuration.proxy.startswith("socks") and importlib.util.find_spec("socks") is None:
        raise EnvironmentUnfit(
            f"{what}: the proxy on the way is {configuration.proxy}: SOCKS needs pip install pysocks"
        )
    return configuration


def _refuse_unreadable(kubeconfig: Path) -> None:
    """Raise EnvironmentUnfit for a kubeconfig, or a file that it names, that would block the official client: it opens
    whatever it is given.
    """
    for path in (Path(part) for part in str(kubeconfig).split(os.pathsep) if part):
        if not path.exists():
            continue  # one of several may be missing, and the client says so when all are
        try:
            document = read_yaml(path)
            entries = [
                entry.get(kind)
                for kind in ("user", "cluster")
                for entry in (document or {}).get(f"{kind}s") or []
                if isinstance(entry.get(kind), dict)
            ]
            for entry in entries:
                for name in ("client-certificate", "client-key", "certificate-authority", "tokenFile"):
                    if isinstance(entry.get(name), str) and (file := path.parent / entry[name]).exists():
                        read_bytes(file, most=_MOST_CREDENTIAL)
        except (Misuse, AttributeError, TypeError) as error:
            raise EnvironmentUnfit(f"{shown(path)}: cannot be used as a kubeconfig: {one_line(error)}") from error


def within(seconds: float, function: Callable[[], T]) -> T:
    """Call the function in its own thread; raises TimeoutError when it takes longer, and abandons it.

    For what cannot be given a time-out: looking a name up, and another's program.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def call() -> None:
        try:
            done.append(function())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=call, daemon=True, name="bounded")
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"not done after {seconds:g} s")
    return done[0]


def one_line(error: BaseException) -> str:
    """Return an error's text on one line; with its kind when the text is empty or only a key."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if isinstance(error, (KeyError, TypeError)) or not words else words


class _Heard(logging.Handler):
    """Collects the official client's error logs and keeps them from the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(" ".join(record.getMessage().split()))

    def __enter__(self) -> _Heard:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
