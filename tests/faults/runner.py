"""A runner to be killed: injects one fault, says `held`, and holds it until it is stopped.

`python -m tests.faults.runner KUBECONFIG FAULT SETTINGS TARGET SECONDS`, the settings and the target as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.faults.catalogue import fault_from
from chaos.faults.injection import injected
from chaos.faults.model import Fault, Target, settings_of
from chaos.faults.stop_signal import StopSignal
from chaos.kube.client import Cluster
from tests.faults.small_world import World


def command(cluster: Cluster, fault: str, settings: Mapping[str, Any], target: Target, seconds: float) -> list[str]:
    """The command line of a runner."""
    told = (json.dumps(dict(settings)), json.dumps(dataclasses.asdict(target)), str(seconds))
    return [sys.executable, "-m", "tests.faults.runner", str(cluster.kubeconfig), fault, *told]


def spawn(world: World, fault: Fault, target: Target, seconds: float) -> subprocess.Popen[str]:
    """The runner as a process of its own; its first line is `held`."""
    told = command(world.cluster, fault.name, settings_of(fault), target, seconds)
    return subprocess.Popen(told, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def main() -> None:
    kubeconfig, name, settings, target, seconds = sys.argv[1:]
    cluster = Cluster(Path(kubeconfig))
    button = StopSignal(cluster)
    fault = fault_from(name, json.loads(settings))
    with injected(cluster, fault, Target(**json.loads(target)), run="faults", seconds=float(seconds), stop=button):
        print("held", flush=True)
        while not button.requested():
            time.sleep(0.2)


if __name__ == "__main__":
    main()
