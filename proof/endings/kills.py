"""Runners that are killed by SIGKILL at a random moment of deploying, and then `sharedfate clean` of that run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from chaos.embedded import provider
from proof.endings.left import cookies_below, descendants, everything_left, wait_for_survivors

MODES: Final = ("none", "sidecar", "node")
DEPLOYING: Final = """
import sys, time
from chaos.cluster.providers import open_cluster
from chaos.mesh import manifests
from chaos.mesh.install import Mesh

run, mode = sys.argv[1:]
with open_cluster("embedded", name=f"sf-{run}") as cluster:
    began = time.monotonic()
    print("deploy", flush=True)
    places = {"client_nodes": ["node-1"], "server_nodes": ["node-2"]}
    Mesh(cluster, mode, run=run).start([obj for tenant in "ab" for obj in manifests.tenant(tenant, **places)])
    print(f"deployed {time.monotonic() - began:.3f}", flush=True)
    sys.stdin.read()
"""
LONGEST: Final = 60.0  # seconds that deploying may take on a busy machine


@dataclass(frozen=True, slots=True)
class Kill:
    """One runner: killed so long after it began to deploy; `at_once`: cleaned before its cluster can have noticed."""

    mode: str
    after: float
    at_once: bool


def plan(number: int, *, seed: int, takes: dict[str, float]) -> Kill:
    """The modes in turn, half of them cleaned at once; a moment within what deploying takes in that mode."""
    chance = random.Random(f"{seed}:{number}")
    mode = MODES[number % len(MODES)]
    return Kill(mode, round(chance.uniform(0, takes[mode]), 3), chance.random() < 0.5)


def _runner(run: str, mode: str) -> subprocess.Popen[str]:
    runner = subprocess.Popen(
        [sys.executable, "-c", DEPLOYING, run, mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert runner.stdout is not None
    assert runner.stdout.readline() == "deploy\n", f"{run}: its cluster did not come up"
    return runner


def measure(run: str, mode: str) -> float:
    """Seconds that deploying takes now, by one runner that nobody disturbs."""
    runner = _runner(run, mode)
    assert runner.stdout is not None
    words = runner.stdout.readline().split()
    runner.communicate("")
    assert words[:1] == ["deployed"], f"{run}: it did not deploy"
    return float(words[1])


def kill(run: str, planned: Kill) -> dict[str, Any]:
    """Kill one runner, clean, and look; what a line of the log holds. Orphans must come to this process."""
    name = f"sf-{run}"
    before = descendants(os.getpid())
    runner = _runner(run, planned.mode)
    time.sleep(planned.after)
    spaces = cookies_below(name)
    runner.kill()
    said, _ = runner.communicate()
    began = time.monotonic()
    wrong = []
    if not planned.at_once:
        wrong += [f"{one}, without clean" for one in wait_for_survivors(before)]
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "clean", "--run", run], capture_output=True, text=True, check=False
    )
    wrong += [f"clean: exit {done.returncode}: {done.stderr[-300:]}"] if done.returncode else []
    wrong += everything_left(name, before=before, spaces=spaces)
    wrong += [f"directory {provider.RUN / name}"] if (provider.RUN / name).exists() else []
    return {
        **asdict(planned),
        "counts": "deployed" not in said,
        "namespaces": len(spaces),
        "cleaned": done.stdout.splitlines(),
        "seconds": round(time.monotonic() - began, 2),
        "wrong": wrong,
    }
