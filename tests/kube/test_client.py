"""The client against an API server that is slow, busy, away, restarted or has rotated its tokens."""

from __future__ import annotations

import contextlib
import http.server
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from chaos.errors import ApiError, Unreachable
from chaos.kube.client import Cluster, exit_code
from chaos.kube.retrying import Backoff, is_transient, retrying, was_not_acted_on
from tests.kube.weather import plain_config

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]] | None  # None: hang up without an answer


class Script:
    """An API server that answers as scripted, in order, and notes what it was asked and by whom."""

    def __init__(self, *answers: Answer | Callable[[str], Answer]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.tokens: list[str] = []

    def take(self, line: str, token: str) -> Answer:
        self.asked.append(line)
        self.tokens.append(token)
        assert self.answers, f"one request too many: {line}"
        answer = self.answers.pop(0)
        return answer(token) if callable(answer) else answer


@contextlib.contextmanager
def serving(script: Script, folder: Path, *, token: str = "", patience: float = 5.0) -> Iterator[Cluster]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = script.take(f"{self.command} {self.path}", self.headers.get("Authorization", ""))
            if answer is None:
                self.close_connection = True
                self.connection.shutdown(2)
                return
            code, body, *more = answer
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            missing = int(more[0].get("X-Missing", 0)) if more else 0  # bytes that are announced and never come
            self.send_header("Content-Length", str(len(raw) + missing))
            self.end_headers()
            self.wfile.write(raw)
            self.close_connection = bool(missing)

        do_GET = do_POST = do_PATCH = do_DELETE = _do  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    cluster = Cluster(plain_config(folder / "config", server.server_address[1], token), patience=patience)
    try:
        yield cluster
    finally:
        cluster.close()
        server.shutdown()
        server.server_close()


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "7"},
}
BUSY, AWAY = (429, {"message": "too many"}, {"Retry-After": "0"}), (503, {"message": "starting"}, {"Retry-After": "0"})
BROKEN, EXISTS = (
    (500, {"message": "etcdserver: leader changed"}),
    (409, {"reason": "AlreadyExists", "message": "there"}),
)


def test_a_read_is_repeated_through_busy_broken_and_hung_up_answers(tmp_path: Path) -> None:
    script = Script(BUSY, BROKEN, None, (502, b"<html>"), (200, POD))
    with serving(script, tmp_path) as cluster:
        assert cluster.get("Pod", "p", "n")["metadata"]["uid"] == "u"
    assert len(script.asked) == 5


def test_a_creation_is_repeated_when_it_was_not_acted_on_and_not_otherwise(tmp_path: Path) -> None:
    with serving(Script(BUSY, AWAY, (201, POD)), tmp_path) as cluster:
        assert cluster.create(POD)["metadata"]["uid"] == "u"
    for answer, says in (
        (BROKEN, "leader changed"),
        ((429, {"message": "would violate the pod's disruption budget"}), "would violate"),
    ):
        with serving(Script(answer), tmp_path) as cluster:
            with pytest.raises(ApiError, match=says):
                cluster.create(POD)
    with serving(Script(None), tmp_path) as cluster:
        with pytest.raises(Unreachable):
            cluster.create(POD)


CUT = (200, b"half of it", {"X-Missing": "210"})


def test_a_pods_answer_that_breaks_off_is_asked_for_again(tmp_path: Path) -> None:
    with serving(Script(CUT, (200, b"whole"), CUT, (200, b"lines")), tmp_path) as cluster:
        assert cluster.pod_http("n", "p", 9990, "/state") == b"whole"
        assert cluster.logs("n", "p") == "lines"


@pytest.mark.parametrize(("method", "asked"), [("GET", 2), ("POST", 1)])
def test_a_pods_answer_that_breaks_off_again_is_an_error_and_a_change_is_not_made_twice(
    tmp_path: Path, method: str, asked: int
) -> None:
    script = Script(*[CUT] * asked)
    with serving(script, tmp_path) as cluster, pytest.raises(ApiError, match="broke off") as caught:
        cluster.pod_http("n", "p", 9990, "/flows", method=method, body=b"{}" if method == "POST" else None)
    assert (caught.value.code, len(script.asked)) == (503, asked)


def test_an_evictions_429_is_an_answer(tmp_path: Path) -> None:
    script = Script((429, {"message": "would violate the budget"}, {"Retry-After": "10"}))
    with serving(script, tmp_path) as cluster, pytest.raises(ApiError, match="would violate"):
        cluster.request("POST", "/api/v1/namespaces/n/pods/p/eviction", {})
    assert len(script.asked) == 1


def test_a_unique_creation_whose_answer_was_lost_is_found_again(tmp_path: Path) -> None:
    script = Script(None, EXISTS, (200, POD))
    with serving(script, tmp_path) as cluster:
        assert cluster.create(POD, unique=True)["metadata"]["uid"] == "u"
    assert [line.split()[0] for line in script.asked] == ["POST", "POST", "GET"]


def test_a_unique_name_that_was_taken_from_the_start_is_an_error(tmp_path: Path) -> None:
    with serving(Script(EXISTS), tmp_path) as cluster, pytest.raises(ApiError, match="there"):
        cluster.create(POD, unique=True)


def test_a_merge_patch_and_a_deletion_are_repeated_and_a_json_patch_is_not(tmp_path: Path) -> None:
    with serving(Script(None, (200, POD)), tmp_path) as cluster:
        cluster.patch("Pod", "p", {}, "n")
    with serving(Script(BROKEN, (200, {})), tmp_path) as cluster:
        assert cluster.delete("Pod", "p", "n")
    with serving(Script(None), tmp_path) as cluster, pytest.raises(Unreachable):
        cluster.patch("Pod", "p", [], "n", how="json")


def test_a_refusal_is_never_repeated(tmp_path: Path) -> None:
    for code in (400, 403, 404, 409, 422):
        script = Script((code, {"message": "no"}))
        with serving(script, tmp_path) as cluster, pytest.raises(ApiError) as caught:
            cluster.request("GET", "/api/v1/pods")
        assert caught.value.code == code
        assert len(script.asked) == 1


def test_patience_ends_and_the_last_error_is_the_answer(tmp_path: Path) -> None:
    script = Script(*[(503, {"message": "still away"})] * 1000)
    with serving(script, tmp_path, patience=0.5) as cluster, pytest.raises(ApiError, match="still away"):
        cluster.get("Pod", "p", "n")
    assert len(script.asked) > 1


def test_the_server_is_not_asked_again_before_it_wants_to_be(tmp_path: Path) -> None:
    script = Script((429, {"message": "later"}, {"Retry-After": "1"}), (200, POD))
    with serving(script, tmp_path) as cluster:
        begun = time.monotonic()
        cluster.get("Pod", "p", "n")
    assert time.monotonic() - begun >= 1.0


def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    script = Script((200, POD))
    with serving(script, tmp_path) as cluster:
        port = cluster.host.rpartition(":")[2]
    cluster = Cluster(plain_config(tmp_path / "config", int(port)), patience=10)
    found: list[Any] = []
    waiting = threading.Thread(
        target=lambda: found.append(cluster.create(POD))
    )  # refused connections carried nothing: safe
    waiting.start()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(POD).encode()
            self.send_response(201)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    time.sleep(0.3)  # long enough for a few refused connections: what is waited through
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        waiting.join(20)
        server.shutdown()
    cluster.close()
    assert found == [POD]


def test_a_rotated_token_is_read_again_and_the_refused_request_goes_through(tmp_path: Path) -> None:
    def only(token: str) -> Answer:
        return (200, POD) if token == "Bearer new" else (401, {"message": "Unauthorized"})

    script = Script(only, only, (200, POD))
    with serving(script, tmp_path, token="old") as cluster:
        port = int(cluster.host.rpartition(":")[2])
        plain_config(tmp_path / "config", port, "new")
        assert cluster.create(POD) == POD  # a creation too: 401 was not acted on
        cluster.get("Pod", "p", "n")
    assert script.tokens == ["Bearer old", "Bearer new", "Bearer new"]


def test_credentials_that_stay_refused_say_so(tmp_path: Path) -> None:
    with serving(Script(*[(401, {"message": "Unauthorized"})] * 2), tmp_path, token="old") as cluster:
        with pytest.raises(ApiError, match="read again and are still refused"):
            cluster.get("Pod", "p", "n")


def line(kind: str, version: str, uid: str = "u") -> bytes:
    return (
        json.dumps(
            {"type": kind, "object": {"kind": "Pod", "metadata": {"uid": uid, "resourceVersion": version}}}
        ).encode()
        + b"\n"
    )


def listed(version: str, *uids: str) -> Answer:
    return (
        200,
        {
            "metadata": {"resourceVersion": version},
            "items": [{"metadata": {"uid": uid, "resourceVersion": "1"}} for uid in uids],
        },
    )


def follow(script: Script, folder: Path, count: int) -> list[tuple[str, str]]:
    stop, found = threading.Event(), []
    with serving(script, folder, patience=0.2) as cluster:
        for change in cluster.follow("Pod", stop=stop):
            found.append((change.type, change.object["metadata"]["uid"]))
            if len(found) == count:
                stop.set()
    return found


def test_a_watch_that_is_cut_in_the_middle_of_a_line_resumes_after_the_last_whole_one(tmp_path: Path) -> None:
    script = Script(
        listed("5", "a"),
        (200, line("MODIFIED", "6", "a") + line("MODIFIED", "7", "a")[:20]),
        (200, line("DELETED", "7", "a")),
    )
    assert follow(script, tmp_path, 3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert "resourceVersion=5" in script.asked[1]
    assert "resourceVersion=6" in script.asked[2]


def test_a_watch_goes_on_through_busy_and_broken_answers(tmp_path: Path) -> None:
    script = Script(listed("5"), BUSY, None, BROKEN, (200, line("ADDED", "6", "a")))
    assert follow(script, tmp_path, 1) == [("ADDED", "a")]


def test_a_list_that_outlasts_patience_is_begun_again(tmp_path: Path) -> None:
    away: list[Answer] = [(503, {"message": "away"})] * 3
    script = Script(*away, listed("5", "a"))
    assert follow(script, tmp_path, 1) == [("ADDED", "a")]


def test_an_expired_version_lists_again_and_tells_what_went_meanwhile(tmp_path: Path) -> None:
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
    script = Script(listed("5", "a", "b"), (200, json.dumps(gone).encode() + b"\n"), listed("9", "b", "c"))
    assert sorted(follow(script, tmp_path, 5)) == [
        ("ADDED", "a"),
        ("ADDED", "b"),
        ("ADDED", "c"),
        ("DELETED", "a"),
        ("MODIFIED", "b"),
    ]


def test_a_watch_that_may_not_be_is_an_error_and_not_a_loop(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="forbidden"):
        follow(Script(listed("5"), (403, {"message": "forbidden"})), tmp_path, 1)


def test_pauses_grow_have_jitter_and_are_bounded() -> None:
    backoff = Backoff(random.Random(1))
    pauses = [backoff.next() for _ in range(200)]
    assert max(pauses[:2]) <= 0.4
    assert max(pauses) <= 5.0
    assert max(pauses[50:]) > 2.0
    assert len(set(pauses)) == 200
    backoff.reset()
    assert backoff.next() <= 0.2
    assert Backoff().next(ApiError("x", code=429, retry_after=3)) >= 3.0


def test_what_is_safe_is_decided_by_what_the_server_can_have_done() -> None:
    refused = urllib3.exceptions.NewConnectionError(None, "refused")  # type: ignore[arg-type]
    assert was_not_acted_on(urllib3.exceptions.MaxRetryError(None, "/", refused))  # type: ignore[arg-type]
    assert not was_not_acted_on(urllib3.exceptions.ProtocolError("reset"))
    assert not was_not_acted_on(ApiError("x", code=500))
    assert is_transient(ApiError("x", code=500))
    assert not is_transient(ApiError("x", code=409))


def test_nothing_is_called_again_after_success() -> None:
    calls: list[int] = []

    def answer() -> str:
        calls.append(1)
        return "ok"

    assert retrying(answer, idempotent=True) == "ok"
    assert calls == [1]


def status_of_exec(reason: str, *causes: dict[str, str], **more: Any) -> str:
    return json.dumps({"metadata": {}, "status": "Failure", "reason": reason, "details": {"causes": causes}, **more})


# The Status that ends an exec -> its exit code, or what is said where the command did not run.
ENDS_OF_EXEC: dict[str, tuple[str, int | str]] = {
    "success": ('{"metadata":{},"status":"Success"}', 0),
    "an exit code": (status_of_exec("NonZeroExitCode", {"reason": "ExitCode", "message": "7"}), 7),
    "no such program": (
        status_of_exec("InternalError", {"message": "no such file"}, code=500, message="Internal error: no such file"),
        "500: Internal error: no such file",
    ),
    "a container that ends": (
        status_of_exec("InternalError", message="container not running"),
        "container not running",
    ),
    "no causes": ('{"status":"Failure","message":"gone","code":404,"details":null}', "404: gone"),
    "a stream that broke off": ("", "before the command's exit code"),
    "no status": ("null", "500: null"),
    "no JSON": ("<html>", "500: <html>"),
    "an exit code that is none": (status_of_exec("NonZeroExitCode", {"reason": "ExitCode", "message": "x"}), "500: "),
}


@pytest.mark.parametrize("case", ENDS_OF_EXEC)
def test_an_exec_has_an_exit_code_or_says_why_it_did_not_run(case: str) -> None:
    status, expected = ENDS_OF_EXEC[case]
    if isinstance(expected, int):
        assert exit_code("/exec", status) == expected
    else:
        with pytest.raises(ApiError, match=re.escape(expected)):
            exit_code("/exec", status)
