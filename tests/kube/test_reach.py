"""An API server that is not reached, credentials that cannot be had, a kubeconfig that cannot be used: one line, exit
code 4, within five seconds, from the doctor and from a run.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import socket
import ssl
import subprocess
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chaos.cli import main
from chaos.errors import EnvironmentUnfit
from chaos.kube.client import Cluster
from chaos.kube.kubeconfig import load_kubeconfig
from chaos.kube.proxies import is_excepted, proxy_for
from chaos.mesh.ca import Authority
from chaos.report.document import check
from tests.stranger.clusters import command

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "environment", "configured", "proxy"),
    [
        ("https://api.example:6443", {}, "", ""),
        ("https://api.example:6443", {"HTTPS_PROXY": PROXY}, "", PROXY),
        ("https://api.example:6443", {"https_proxy": "proxy.example:3128"}, "", PROXY),
        ("https://api.example:6443", {"HTTP_PROXY": PROXY}, "", ""),
        ("http://api.example", {"HTTP_PROXY": PROXY}, "", PROXY),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": PROXY}, "", ""),
        ("https://127.9.8.7:6443", {"HTTPS_PROXY": PROXY}, "", ""),
        ("https://localhost:6443", {"HTTPS_PROXY": PROXY}, "", ""),
        ("https://[::1]:6443", {"HTTPS_PROXY": PROXY}, "", ""),
        ("https://10.96.0.1", {"HTTPS_PROXY": PROXY, "NO_PROXY": "10.0.0.0/8"}, "", ""),
        ("https://10.96.0.1", {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, "", ""),
        ("https://10.96.0.1", {"HTTPS_PROXY": PROXY, "no_proxy": "10.96.0.1"}, "", ""),
        ("https://[fd00::1]", {"HTTPS_PROXY": PROXY, "NO_PROXY": "fd00::/8"}, "", ""),
        ("https://api.example", {"HTTPS_PROXY": PROXY}, "http://jump:1", "http://jump:1"),
        ("https://api.example", {"NO_PROXY": "*"}, "http://jump:1", "http://jump:1"),
        ("https://127.0.0.1:6443", {}, "http://jump:1", "http://jump:1"),
    ],
)
def test_a_proxy_is_taken_as_client_go_takes_it(
    url: str, environment: dict[str, str], configured: str, proxy: str
) -> None:
    assert proxy_for(url, environment, configured=configured) == proxy


@pytest.mark.parametrize(
    ("host", "port", "exceptions", "excepted"),
    [
        ("api.example", 443, "example", True),
        ("example", 443, "example", True),
        ("notexample", 443, "example", False),
        ("api.example", 443, ".example", True),
        ("example", 443, ".example", False),
        ("api.example", 443, "*.example", True),
        ("example", 443, "*.example", False),
        ("api.example", 443, "api.example:443", True),
        ("api.example", 443, "api.example:6443", False),
        ("10.0.0.1", 443, "10.0.0.1:443, other", True),
        ("10.0.0.1", 443, "10.0.1.0/24", False),
        ("10.0.0.1", 443, "10.0.0.0/33", False),
        ("API.Example", 443, "api.EXAMPLE", True),
        ("fd00::1", 443, "[fd00::1]:443", True),
        ("api.example", 443, " , ,", False),
    ],
)
def test_exceptions_are_read_as_go_reads_them(host: str, port: int, exceptions: str, excepted: bool) -> None:
    assert is_excepted(host, port, exceptions) is excepted


def config(path: Path, server: str, *, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
                "users": [{"name": "u", "user": user or {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    return path


def test_loop_back_is_not_proxied_and_the_configured_proxy_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert load_kubeconfig(config(tmp_path / "a", "https://127.0.0.1:1"), "x").proxy == ""
    assert load_kubeconfig(config(tmp_path / "b", "https://far.example"), "x").proxy == "http://127.0.0.1:9"
    chosen = config(tmp_path / "c", "https://127.0.0.1:1", **dict[str, Any](**{"proxy-url": "http://127.0.0.1:8"}))
    assert load_kubeconfig(chosen, "x").proxy == "http://127.0.0.1:8"


def plugin(name: str, *arguments: str) -> dict[str, Any]:
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": name, "args": list(arguments)}}


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a credential plugin that is not installed": ({"user": plugin("no-such-plugin")}, "no-such-plugin"),
    "a credential plugin that fails": (
        {"user": plugin("sh", "-c", "echo token has expired: log in again >&2; exit 3")},
        "token has expired: log in again",
    ),
    "a credential plugin that says nothing": ({"user": plugin("true")}, "credentials cannot be obtained"),
    "a credential plugin that says no token": (
        {"user": plugin("echo", '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}')},
        "credentials cannot be obtained",
    ),
    "a credential plugin that waits for somebody": ({"user": plugin("sleep", "60")}, "no credentials after 5 s"),
    "a client key that is not there": ({"user": {"client-certificate": "gone.pem", "client-key": "gone"}}, "gone"),
    "a token file that is not there": ({"user": {"tokenFile": "/gone/token"}}, "/gone/token"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_kubeconfig_that_cannot_be_used_is_one_line(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fields, said = BROKEN[name]
    with pytest.raises(EnvironmentUnfit, match=r"kubeconfig") as caught:
        Cluster(config(tmp_path / "config", "https://127.0.0.1:1", **fields), context="x")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


TEXTS = {
    "not YAML": ("a: [", "cannot be read as a kubeconfig"),
    "bytes": (b"\xff\xfe\x00", "cannot be read as a kubeconfig"),
    "a list": ("[]", "should hold an object"),
    "contexts without names": ("contexts: [{context: {}}]", "each with its name"),
    "contexts that are texts": ("contexts: [x]", "each with its name"),
    "contexts that are a number": ("contexts: 3", "each with its name"),
    "a context without its cluster": ("contexts: [{name: x, context: {cluster: gone}}]", "has no server there"),
    "empty": ("", "should hold an object"),
}


def answered(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`sharedfate ARGUMENTS` in this process, whose start is not what is tried."""
    done = CliRunner().invoke(main, list(arguments), env=environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on loopback; each connection is given to `serve`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    kept.append(connection)
                    threading.Thread(target=quietly, args=(connection,), daemon=True).start()

        def quietly(connection: socket.socket) -> None:
            with contextlib.suppress(OSError):
                serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            for connection in kept:
                connection.close()


def silent(connection: socket.socket) -> None:
    time.sleep(30)


def resets(connection: socket.socket) -> None:
    connection.recv(10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def page(connection: socket.socket) -> None:
    connection.recv(65536)
    body = b"<html>login</html>"
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))


def unavailable(connection: socket.socket) -> None:
    while connection.recv(65536):
        connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")


TROUBLE = {
    "refuses": (None, "refused"),
    "silent": (silent, "no answer within"),
    "resets": (resets, "reset"),
    "no API server": (page, "is a Kubernetes API server there?"),
    "unavailable": (unavailable, "503"),
}


def one_line_and_4(done: Any, seconds: float) -> str:
    text = (done.stdout + done.stderr).strip()
    assert done.returncode == 4, text[-2000:]
    assert "Traceback" not in text
    assert "ERROR:root" not in text
    assert seconds < 5 + START_SECONDS
    return str(text)


START_SECONDS = 25.0  # of Python and its imports, on a machine that does much else: a wait without a bound is longer


@pytest.mark.parametrize("name", TROUBLE)
def test_an_api_server_that_does_not_answer_is_one_line_within_five_seconds(name: str, tmp_path: Path) -> None:
    serve, said = TROUBLE[name]
    with listening(serve or resets) as port:
        where = port
        if serve is None:
            with socket.create_server(("127.0.0.1", 0)) as free:
                where = free.getsockname()[1]
        kubeconfig = config(tmp_path / "config", f"http://127.0.0.1:{where}")
        began = time.monotonic()
        done = command("doctor", "--cluster", "context:x", KUBECONFIG=str(kubeconfig))
        text = one_line_and_4(done, time.monotonic() - began)
    assert said in text
    assert len(text.splitlines()) == 1


def test_a_name_that_nobody_knows_is_one_line(tmp_path: Path) -> None:
    began = time.monotonic()
    kubeconfig = config(tmp_path / "a", "https://no-such-host.invalid:6443")
    done = command("doctor", "--cluster", "context:x", KUBECONFIG=str(kubeconfig))
    text = one_line_and_4(done, time.monotonic() - began)
    assert "no-such-host.invalid" in text


@pytest.mark.skipif(importlib.util.find_spec("socks") is not None, reason="PySocks is here")
@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY"])
def test_a_socks_proxy_says_what_it_needs(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "socks5://127.0.0.1:9")
    kubeconfig = config(tmp_path / "config", "https://192.0.2.1:6443")
    with pytest.raises(EnvironmentUnfit, match=r"is socks5://127\.0\.0\.1:9: SOCKS needs pip install pysocks"):
        Cluster(kubeconfig, kind="context", name="x", context="x")


@pytest.mark.parametrize("authority", ["%%%", "bm90IGEgY2VydA=="])
def test_an_authority_that_is_no_certificate_is_one_line(authority: str, tmp_path: Path) -> None:
    with listening(silent) as port:
        kubeconfig = config(
            tmp_path / "config",
            f"https://127.0.0.1:{port}",
            **dict[str, Any](**{"certificate-authority-data": authority}),
        )
        done = command("doctor", "--cluster", "context:x", KUBECONFIG=str(kubeconfig))
    text = one_line_and_4(done, 0)
    assert len(text.splitlines()) == 1


def test_a_server_whose_certificate_is_of_another_authority_is_one_line(tmp_path: Path) -> None:
    theirs, other = Authority.new(), Authority.new()
    issued = theirs.issue_server("localhost", seconds=600)
    (tmp_path / "server.pem").write_bytes(issued.certificate + issued.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as stream:
            page(stream)

    trusted = base64.b64encode(other.root_pem).decode()
    with listening(serve) as port:
        kubeconfig = config(
            tmp_path / "config",
            f"https://127.0.0.1:{port}",
            **dict[str, Any](**{"certificate-authority-data": trusted}),
        )
        began = time.monotonic()
        done = command("doctor", "--cluster", "context:x", KUBECONFIG=str(kubeconfig))
        text = one_line_and_4(done, time.monotonic() - began)
    assert "certificate verify failed" in text
    assert "is certificate-authority-data that of this cluster?" in text
    assert len(text.splitlines()) == 1


def test_a_plugin_that_waits_for_somebody_does_not_hold_the_doctor_up(tmp_path: Path) -> None:
    began = time.monotonic()
    kubeconfig = config(tmp_path / "config", "https://127.0.0.1:1", user=plugin("sleep", "120"))
    done = command("doctor", "--cluster", "context:x", KUBECONFIG=str(kubeconfig))
    text = one_line_and_4(done, time.monotonic() - began)
    assert "does its credential plugin wait for somebody?" in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("name", TEXTS)
def test_a_kubeconfig_that_is_none_is_one_line(name: str, tmp_path: Path) -> None:
    content, said = TEXTS[name]
    path = tmp_path / "config"
    path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    done = answered("doctor", "--cluster", "context:x", KUBECONFIG=str(path))
    text = one_line_and_4(done, 0)
    assert said in text
    assert len(text.splitlines()) == 1


def test_a_run_that_reaches_no_cluster_is_an_error_in_junit_and_no_failure(tmp_path: Path) -> None:
    out = tmp_path / "out"
    kubeconfig = config(tmp_path / "config", "http://127.0.0.1:9")
    began = time.monotonic()
    done = command(
        *("run", "--cluster", "context:x", "--modes", "none,node", "--scenarios", "proxy-killed", "--out", str(out)),
        KUBECONFIG=str(kubeconfig),
    )
    text = one_line_and_4(done, time.monotonic() - began)
    assert "http://127.0.0.1:9: Connection refused" in text
    report = json.loads((out / "report.json").read_text())
    check(report)
    assert report["errors"]["run"].startswith("http://127.0.0.1:9: Connection refused")
    assert "Connection refused" in (out / "report.md").read_text()
    suite = ElementTree.parse(out / "junit.xml").getroot()[0]
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")
