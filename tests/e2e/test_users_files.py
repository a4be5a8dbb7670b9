"""Every file that a user gives, spoiled in every way: an answer or one line, never a trace, never a wait."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
import yaml
from click.testing import CliRunner

from chaos.cli import main
from chaos.cluster.contexts import context_facts
from chaos.errors import EnvironmentUnfit, Misuse
from chaos.history.seal import seal
from chaos.history.store import History
from chaos.kube.kubeconfig import load_kubeconfig
from chaos.report import write_reports
from chaos.toolkit.items import is_experiment
from tests.report.synthetic import make_run

_ROOT: Final = Path(__file__).resolve().parents[2]
LONGEST: Final = 60.0  # seconds for one input: the machine itself may stand still for a third of that
FAST, SLOW = 300, 10_000  # inputs

TARGET = """
version: 1
tenants:
  a: {namespaces: [shop]}
  b: {namespaces: [bank]}
calls:
  - {client: shop/web, server: shop/api, reach: "api.shop:80", path: /, rate: 10, status: 200}
mesh:
  name: mine
  proxies:
    - {name: node-proxy, layers: [l4, l7], scope: node, container: proxy, pods: {namespace: mesh, labels: {app: proxy}}}
"""
POLICY = """
may_be_inconclusive: [{scenario: noisy-neighbour}, {scenario: "proxy-*", mode: ambient-pod}]
may_be_missing: []
tolerance: 0.10
alpha: 0.01
"""
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: abc}}]
"""
# fmt: off
ODD: Final[tuple[Any, ...]] = (
    None, [], {}, "", "x", 0, -1, 1.5, 2**63, -(2**80), True, [None], {"a": None}, "\0", "a" * 9_999, "\u202e\x1b[2J",
    {"": ""}, [[]], {1: 2}, "one\ntwo", 1e308, -1e308, [1, "a", None, {}], {"name": []},
    "$ref", "*", "../../etc/passwd",
    {"a": {"b": {"c": {"d": []}}}}, "2001-01-01", "null", " ", "http://", "[::1", "1" * 400,
)
BYTES: Final = (
    b"\xff\xfe", b"\0", b"\xef\xbb\xbf", b"- " * 200, b"[" * 5_000, b"{" * 5_000, b'{"a":' * 5_000, b"&a [*a]",
    b"!!bool x",
    b"!!timestamp x", b"!!python/object:os.system x", b"1e999", b"NaN", b"-Infinity", b"9" * 5_000,
    b"0x" + b"f" * 5_000,
    b'"\\ud800"', b"\r", b"\t", b"---\n", b"...\n", b"? ", b"<<: *b\n", b"%YAML 9.9\n", b"\x85", b"\xe2\x80\xa8", b'"',
    b"'",
    b": ", b"\n", b"|\n", b"`", b"@", b"\xc3\x28", b"\xed\xa0\x80",
)
# fmt: on


class Hang(BaseException):
    """One input took too long."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Kind:
    """A file that a user gives, a good one, and who reads it. `share`: of the inputs, as a weight."""

    name: str
    good: Path
    read: Callable[[Path], None]  # with the file in the good one's place; raises AssertionError
    share: int = 10
    lines: bool = False  # an answer of several lines is meant: a problem each


def command(*arguments: object, lines: bool = False) -> None:
    """Run a command in this process: it answers, or says one line and exits with 4."""
    result = CliRunner().invoke(main, list(map(str, arguments)))
    if isinstance(result.exception, Hang):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), f"trace: {result.exception!r}"
    assert result.exit_code in (0, 1, 4), f"exit code {result.exit_code}: {result.output[-300:]}"
    if result.exit_code == 4 and not lines:
        assert len(result.output.splitlines()) == 1, f"several lines: {result.output[:500]}"
    assert "Traceback" not in result.output


def history(path: Path) -> None:
    """Samples of a trial that was not sealed: what can be read of them is read."""
    good = path.parent / "trial"
    shutil.rmtree(good, ignore_errors=True)
    shutil.copytree(TRIAL[0], good)
    (good / "samples.arrows").unlink()
    (good / "samples.arrows").symlink_to(path)
    with contextlib.suppress(Misuse):
        History.load(good)


TRIAL: Final[list[Path]] = []  # the good trial, once it is made


def kubeconfig(path: Path) -> None:
    with contextlib.suppress(Misuse, EnvironmentUnfit):
        context_facts("here", path)
    with contextlib.suppress(Misuse, EnvironmentUnfit):
        load_kubeconfig(path, "here")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> list[Kind]:
    folder = tmp_path_factory.mktemp("good")
    run = folder / "run"
    make_run(run, modes=("node",))
    write_reports(run, seconds=1)
    trial = run / "trials" / "node" / "proxy-killed"
    seal(trial)
    TRIAL[:] = [trial]
    texts = {"target.yaml": TARGET, "policy.yaml": POLICY, "kubeconfig": KUBECONFIG}
    for name, text in texts.items():
        (folder / name).write_text(text)

    def of_run(relative: Path, *arguments: str) -> Callable[[Path], None]:
        def read(path: Path) -> None:
            original = (run / relative).read_bytes()
            (run / relative).unlink()
            (run / relative).symlink_to(path)
            try:
                command(*arguments, run)
            finally:
                (run / relative).unlink()
                (run / relative).write_bytes(original)

        return read

    def manifests(path: Path) -> None:
        command("render", "--mode", "sidecar", "-f", path)

    def experiment(path: Path) -> None:
        is_experiment(path, False)
        command("experiment", "validate", path, lines=True)

    inner = trial.relative_to(run)
    return [
        Kind("manifests", _ROOT / "manifests" / "apps" / "tenant.yaml", manifests, 20),
        Kind("target", folder / "target.yaml", lambda path: command("target", path, "--cluster", "embedded"), 20),
        Kind("policy", folder / "policy.yaml", lambda path: command("compare", run, run, "--policy", path), 15),
        Kind("report", run / "report.json", lambda path: command("compare", path, path), 15),
        Kind("experiment", _ROOT / "experiments" / "proxy-killed.yaml", experiment, 20),
        Kind("kubeconfig", folder / "kubeconfig", kubeconfig, 20),
        Kind("run.json", run / "run.json", of_run(Path("run.json"), "report"), 4),
        Kind("result.json", trial / "result.json", of_run(inner / "result.json", "report"), 6),
        Kind("result.json, checked", trial / "result.json", of_run(inner / "result.json", "check"), 2),
        Kind("trial.json", trial / "trial.json", of_run(inner / "trial.json", "report"), 3),
        Kind("events", trial / "events.jsonl", of_run(inner / "events.jsonl", "report"), 4),
        Kind("samples", trial / "samples.arrows", history, 4),
        Kind("seal", trial / "seal.json", of_run(inner / "seal.json", "check"), 3),
        Kind("report.json, written again", run / "report.json", of_run(Path("report.json"), "report"), 2),
    ]


def spoiled(good: bytes, suffix: str, chance: random.Random) -> bytes:
    """One way among many to spoil a file."""
    if suffix in (".json", ".yaml", "", ".jsonl") and chance.random() < 0.6:
        return _other_values(good, suffix, chance)
    content = bytearray(good)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at, to = chance.randrange(len(content) + 1), chance.randrange(len(content) + 1)
        match chance.randrange(6):
            case 0:
                del content[at:]
            case 1:
                content[at:at] = chance.choice(BYTES)
            case 2:
                content[at : at + 1] = bytes([chance.randrange(256)])
            case 3:
                del content[min(at, to) : max(at, to)]
            case 4:
                content[at:at] = content[min(at, to) : max(at, to)]
            case 5:
                content[at:at] = chance.randbytes(chance.randrange(1, 40))
    return bytes(content)


def _other_values(good: bytes, suffix: str, chance: random.Random) -> bytes:
    """The same document with some value, key or list replaced by an odd one."""
    if suffix == ".jsonl":
        lines = good.splitlines(keepends=True)
        at = chance.randrange(len(lines))
        return b"".join([*lines[:at], _other_values(lines[at], ".json", chance) + b"\n", *lines[at + 1 :]])
    documents = [json.loads(good)] if suffix == ".json" else list(yaml.safe_load_all(good))
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        holder: Any = documents
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(holder[key], (dict, list)) and holder[key] and chance.random() < 0.85:
                holder = holder[key]
                continue
            if isinstance(holder, dict) and chance.random() < 0.2:
                value = holder.pop(key)
                if chance.random() < 0.5:
                    holder[chance.choice(("x", "", "name", "kind"))] = value
            else:
                holder[key] = deepcopy(chance.choice(ODD))
            break
    if suffix == ".json":
        return json.dumps(documents[0]).encode()
    return "---\n".join(yaml.safe_dump(one, sort_keys=False) for one in documents).encode()


@pytest.mark.parametrize("count", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_no_spoiled_file_leaves_a_trace_or_hangs(kinds: list[Kind], tmp_path: Path, count: int) -> None:
    """SHAREDFATE_TEST_SLICE=FIRST:LAST takes some of the inputs, for a machine that others use."""
    first, _, last = os.environ.get("SHAREDFATE_TEST_SLICE", f"0:{count}").partition(":")
    traces: dict[str, list[str]] = {}
    for number in range(int(first), int(last)):
        chance = random.Random(f"{count}-{number}")
        kind = chance.choices(kinds, [one.share for one in kinds])[0]
        path = tmp_path / f"input{kind.good.suffix}"
        path.write_bytes(spoiled(kind.good.read_bytes(), kind.good.suffix, chance))
        try:
            with bounded():
                kind.read(path)
        except (Hang, Exception) as error:
            kept = tmp_path / f"{number}-{path.name}"
            shutil.copyfile(path, kept)
            traces.setdefault(kind.name, []).append(f"{kept}: {type(error).__name__} {error}"[:300])
    assert not traces, "\n".join(f"{name}: {len(found)}, first {found[:3]}" for name, found in traces.items())


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def listening(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


def loop(path: Path) -> None:
    path.symlink_to(path)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(5 << 30)  # a hole: it takes no room


def deep(path: Path) -> None:
    path.write_bytes(b"[" * 1_000_000)


def deep_blocks(path: Path) -> None:
    path.write_bytes(b"- " * 1_000_000)


def aliases(path: Path) -> None:
    lines = ["a0: &a0 [1]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    path.write_text("\n".join(lines))


def merges(path: Path) -> None:
    lines = ["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 30)]
    path.write_text("\n".join(lines))


def empty(path: Path) -> None:
    path.touch()


def latin(path: Path) -> None:
    path.write_bytes("a: fünf\n".encode("latin-1"))


def wide(path: Path) -> None:
    path.write_bytes("a: 5\n".encode("utf-16"))


def long_line(path: Path) -> None:
    path.write_bytes(b'{"a": "' + b"x" * 3_000_000 + b'"}')


@pytest.mark.parametrize(
    "make",
    [
        fifo,
        directory,
        listening,
        device,
        terminal,
        loop,
        dangling,
        huge,
        deep,
        deep_blocks,
        aliases,
        merges,
        empty,
        latin,
        wide,
        long_line,
    ],
)
def test_what_is_no_such_file_is_said_in_one_line(
    kinds: list[Kind], tmp_path: Path, make: Callable[[Path], None]
) -> None:
    for number, kind in enumerate(kinds):
        if kind.share < 4:
            continue  # read as another of these is
        path = tmp_path / f"{number}{kind.good.suffix}"
        make(path)
        with bounded():
            kind.read(path)
