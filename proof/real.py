"""What a real cluster shows of itself: doctor, the demo's trials, the default matrix, every fault, trials with which
somebody else meddles, `clean` after SIGKILL, the oddities of other people's clusters, and the recordings of what
Kubernetes does.

    python -m proof.real --cluster context:NAME                       everything (an hour and a half)
    python -m proof.real --cluster kind[:NAME]                        on a kind (or k3d) cluster, made and deleted
    python -m proof.real --cluster context:NAME --parts doctor,demo   some of it
    python -m proof.real --read                                       what was found, as a table, from the log in --out

A line of the log is one thing tried: its part, its name, what came of it, and its seconds. What was not tried has no
line. Exit code 1 when something came out otherwise than it must.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

from chaos.cluster.providers import Kind, open_cluster, parse_spec
from chaos.kube.nodes import choose_nodes
from chaos.names import IMAGE, LABEL_RUN
from tests.faults.small_world import CLUSTER as TEST_CLUSTER

ROOT: Final = Path(__file__).resolve().parents[1]
SHAREDFATE: Final = (sys.executable, "-m", "chaos.cli")
LONGEST: Final = 5400.0  # seconds of one command
DEMO: Final = ("--modes", "none,sidecar,node", "--scenarios", "proxy-killed,noisy-neighbour")
FAULTS: Final = ("test_in_the_cluster.py", "test_in_the_mesh.py", "test_on_shared_proxies.py", "test_on_proxies.py")
# Scenarios of tests/parity that need nothing of a node but its containers' processes.
RECORDED: Final = (
    "job-plain",
    "job-native-sidecar",
    "job-pod-deleted",
    "job-success-policy",
    "pod-deleted-graceful",
    "pod-with-native-sidecar-deleted",
    "pod-resized",
    "readiness-probe-fails",
    "deployment-rolling-update",
    "statefulset-pod-deleted",
    "endpoints-of-terminating-pod",
    "container-restart-rules",
    "job-failure-policy-fail-index",
    "job-suspended-and-resumed",
    "pod-prestop-with-native-sidecar",
    "startup-probe-native-sidecar",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing tried. `well`: it came out as it must."""

    part: str
    name: str
    well: bool
    said: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Place:
    """The cluster, as the command line names it, and the folder of what is kept."""

    cluster: str  # context:NAME
    out: Path

    def run(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Exit code and output, which is kept below the folder too. `environment`: beside the process's own."""
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST,
            check=False,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
        (self.out / f"{name}.log").write_text(done.stdout)
        return done.returncode, done.stdout

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Its output; raises CalledProcessError."""
        kubectl = Path(sys.executable).with_name("kubectl")
        context = ("--context", self.cluster.partition(":")[2])
        return subprocess.run(
            [str(kubectl), *context, *arguments], input=text, capture_output=True, text=True, check=True, timeout=120
        ).stdout


# ---- the parts: each yields what it tried


def doctor(place: Place) -> Iterator[Line]:
    began = time.monotonic()
    code, said = place.run("doctor", *SHAREDFATE, "doctor", "--try", "--cluster", place.cluster)
    yield Line("doctor", "doctor --try", code == 0, said.strip().splitlines()[-1], time.monotonic() - began)


def demo(place: Place) -> Iterator[Line]:
    yield from _suite(place, "demo", *DEMO)


def matrix(place: Place) -> Iterator[Line]:
    yield from _suite(place, "matrix")


def _suite(place: Place, part: str, *arguments: str) -> Iterator[Line]:
    """A line a trial. A trial that cannot tell is no wrong one, and says why."""
    out = place.out / part
    command = (*SHAREDFATE, "run", "--cluster", place.cluster, "--out", str(out), *arguments)
    code, _ = place.run(part, *command)
    report = json.loads((out / "report.json").read_text())
    for trial in report["trials"]:
        name, verdict = f"{trial['scenario']}[{trial['mode']}]", trial["verdict"]
        yield Line(part, name, verdict != "fail", f"{verdict}: {trial['reason']}", trial["seconds"])
    errors = report.get("errors") or []
    yield Line(part, "all of them", code in (0, 1) and not errors, f"exit code {code}; {errors or 'no error'}", 0.0)


def faults(place: Place) -> Iterator[Line]:
    """The tests of every fault, on this cluster; a line a test."""
    report = place.out / "faults.xml"
    tests = [str(ROOT / "tests" / "faults" / name) for name in FAULTS]
    command = (sys.executable, "-m", "pytest", "-q", "-m", "privileged", f"--junitxml={report}", *tests)
    place.run("faults", *command, environment={TEST_CLUSTER: place.cluster})
    yield from _junit("faults", report)


def odd(place: Place) -> Iterator[Line]:
    """The oddities of other people's clusters, made on this one; a line each."""
    report = place.out / "odd.xml"
    test = str(ROOT / "tests" / "stranger" / "test_odd_clusters.py")
    command = (sys.executable, "-m", "pytest", "-q", "-m", "privileged", f"--junitxml={report}", test)
    place.run("odd", *command, environment={TEST_CLUSTER: place.cluster})
    yield from _junit("odd", report)


def _junit(part: str, path: Path) -> Iterator[Line]:
    from xml.etree import ElementTree

    for case in ElementTree.parse(path).iter("testcase"):
        bad = [one for one in case if one.tag in ("failure", "error")]
        skipped = case.find("skipped")
        said = bad[0].get("message", "") if bad else skipped.get("message", "") if skipped is not None else "passed"
        yield Line(part, str(case.get("name")), not bad, said.splitlines()[0][:300], float(case.get("time", 0)))


@dataclass(frozen=True, slots=True)
class Meddling:
    """Somebody else's change within a trial, and the words that the verdict must hold."""

    command: tuple[str, ...]
    words: str
    scenario: str = "proxy-killed"
    undo: tuple[str, ...] = ()


SERVER: Final = "deployment/server"
MEDDLINGS: Final[Mapping[str, Meddling]] = {
    "scale-down": Meddling(("-n", "tenant-b", "scale", SERVER, "--replicas=1"), "replicas 2 -> 1"),
    "other-image": Meddling(("-n", "tenant-b", "set", "image", SERVER, "server=other.example/app:2"), "image"),
    "roll-out": Meddling(("-n", "tenant-b", "rollout", "restart", SERVER), "rolled out"),
    "pause-roll-out": Meddling(("-n", "tenant-b", "rollout", "pause", SERVER), "paused"),
    "other-resources": Meddling(
        ("-n", "tenant-b", "set", "resources", SERVER, "-c", "server", "--limits=memory=200Mi"), "resources"
    ),
    "delete-pods": Meddling(("-n", "tenant-b", "delete", "pod", "-l", "app=server", "--wait=false"), "deleted"),
    "delete-workload": Meddling(("-n", "tenant-b", "delete", SERVER, "--wait=false"), "deleted"),
    "cordon": Meddling(("cordon", "{node}"), "cordoned", undo=("uncordon", "{node}")),
    "taint": Meddling(
        ("taint", "node", "{node}", "other/tool=1:NoSchedule"), "taint", undo=("taint", "node", "{node}", "other/tool-")
    ),
    "drain": Meddling(
        ("drain", "{node}", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--grace-period=1"),
        "cordoned",
        undo=("uncordon", "{node}"),
    ),
}


def meddled(place: Place) -> Iterator[Line]:
    """A trial with which somebody meddles says so, and judges nothing."""
    node = choose_nodes(json.loads(place.kubectl("get", "nodes", "-o", "json"))["items"]).names[1]
    for name, one in MEDDLINGS.items():
        began = time.monotonic()
        out = place.out / f"meddled-{name}"
        with _running(place, out, one.scenario) as (process, lines):
            for line in lines:
                if "overload" in line or " kill " in line:
                    place.kubectl(*(word.format(node=node) for word in one.command))
                    break
            rest = "".join(lines)
            process.wait(LONGEST)
        if one.undo:
            place.kubectl(*(word.format(node=node) for word in one.undo))
        (place.out / f"meddled-{name}.log").write_text(rest)
        trials = json.loads((out / "report.json").read_text())["trials"]
        said = "; ".join(f"{trial['verdict']}: {trial['reason']}" for trial in trials)
        seen = [
            line for line in rest.splitlines() if "somebody else changed" in line and one.words in line
        ]  # the first attempt; a second may be left alone, and be judged
        yield Line("meddled", name, bool(seen), seen[0].strip() if seen else said, time.monotonic() - began)


@contextmanager
def _running(
    place: Place, out: Path, scenario: str, mode: str = "none"
) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A run of one scenario, and its output as it comes; killed when it is not over."""
    command = [*SHAREDFATE, "run", "--cluster", place.cluster, "--modes", mode, "--scenarios", scenario]
    process = subprocess.Popen(
        [*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    timer = threading.Timer(LONGEST, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        yield process, process.stdout
    finally:
        timer.cancel()
        process.kill()
        process.wait()


MOMENTS: Final[Mapping[str, str]] = {
    "while it deploys": ": deploying",
    "while its load begins": ": ready in",
    "while its fault is held": "overload",
}


def killed(place: Place) -> Iterator[Line]:
    """A runner that ends by SIGKILL: `clean --dry-run` names what `clean` removes, and then nothing is left."""
    for name, moment in MOMENTS.items():
        began = time.monotonic()
        before = _held(place)
        with _running(place, place.out / "killed", "noisy-neighbour", "node") as (process, lines):
            for line in lines:
                if moment in line:
                    break
            time.sleep(1.5)
            process.kill()
        left = _held(place) - before
        _, named = place.run("killed-dry", *SHAREDFATE, "clean", "--cluster", place.cluster, "--dry-run")
        code, _ = place.run("killed-clean", *SHAREDFATE, "clean", "--cluster", place.cluster)
        still = _held(place) - before
        _, again = place.run("killed-again", *SHAREDFATE, "clean", "--cluster", place.cluster)
        said = f"{len(left)} objects left, {len(named.splitlines())} lines named, {len(still)} after clean"
        well = code == 0 and bool(left) and not still and again.strip() == "nothing to clean"
        yield Line("killed", name, well, said + (f": {sorted(still)[:5]}" if still else ""), time.monotonic() - began)


def _held(place: Place) -> set[str]:
    """Every object that carries a run's label, and every namespace."""
    kinds = "namespaces,clusterroles,clusterrolebindings,pods,deployments,daemonsets,jobs,services,configmaps,secrets"
    labelled = place.kubectl("get", kinds, "-A", "-l", LABEL_RUN, "-o", "name")
    return {*labelled.split(), *place.kubectl("get", "namespaces", "-o", "name").split()}


def recordings(place: Place) -> Iterator[Line]:
    """What Kubernetes does is as it was recorded: this cluster's nodes have to be this machine's."""
    parity, out = ROOT / "tests" / "parity", place.out / "recordings"
    kubeconfig = os.environ.get("KUBECONFIG", str(Path.home() / ".kube" / "config"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = (sys.executable, str(parity / "record.py"), "--kubeconfig", kubeconfig, "--out", str(out))
    for name in RECORDED:
        began = time.monotonic()
        place.run(f"record-{name}", *command, name, environment={"IMAGE": os.environ.get("IMAGE", IMAGE), "PATH": path})
        compare = (sys.executable, str(parity / "compare.py"), str(parity / "recordings" / name), str(out / name))
        code, said = place.run(f"compare-{name}", *compare)
        words = said.strip().splitlines()[0] if said.strip() else "no answer"
        yield Line("recordings", name, code == 0, words, time.monotonic() - began)


PARTS: Final[Mapping[str, Callable[[Place], Iterator[Line]]]] = {
    one.__name__: one for one in (doctor, demo, matrix, faults, odd, meddled, killed, recordings)
}


def table(lines: list[Line]) -> str:
    """The log for people: per part how much was tried and how much came out as it must, and what did not."""
    rows = ["| part | tried | as it must | not judged |", "|---|---:|---:|---:|"]
    for part in PARTS:
        of = [line for line in lines if line.part == part]
        if of:
            open_ = sum(line.said.startswith("inconclusive") for line in of)
            rows.append(f"| {part} | {len(of)} | {sum(line.well for line in of) - open_} | {open_} |")
    odd = [f"- {one.part}, {one.name}: {one.said}" for one in lines if not one.well or one.said.startswith("inconcl")]
    return "\n".join([*rows, "", *odd])


@contextmanager
def _place(cluster: str, out: Path) -> Iterator[Place]:
    """A cluster that is there as it is; one of kind or k3d made, and deleted afterwards."""
    if (spec := parse_spec(cluster)).kind not in (Kind.KIND, Kind.K3D):
        yield Place(cluster, out)
        return
    with open_cluster(cluster, nodes=2) as made:
        os.environ["KUBECONFIG"] = str(made.kubeconfig)
        yield Place(f"context:{spec.kind}-{spec.name}", out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", default="context:real-kubernetes")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--out", type=Path, default=ROOT / "sharedfate-real")
    parser.add_argument("--read", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "real.jsonl"
    if not options.read:
        with log.open("a") as file, _place(options.cluster, options.out) as place:
            for part in options.parts.split(","):
                for line in PARTS[part](place):
                    print(f"{'well' if line.well else 'NOT WELL'}  {part}: {line.name}: {line.said}", flush=True)
                    print(json.dumps(asdict(line)), file=file, flush=True)
    lines = [Line(**json.loads(text)) for text in log.read_text().splitlines()]
    print(table(list({(one.part, one.name): one for one in lines}.values())))
    return int(not all(line.well for line in lines))


if __name__ == "__main__":
    sys.exit(main())
