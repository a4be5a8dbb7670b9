"""What a prediction costs at 1,000 to 10,000 pods, from saved objects.

    python -m benchmarks.predict [--write]

Each size is a cluster of Istio made by chance (`tests.prediction.clusters`), written as kubectl would, and read back:
ambient (one proxy a node) and with sidecars (one a pod); and all pods in two workloads, where pairs are most. Seconds
are CPU of one process. About a minute.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from chaos.model.modes import MODES
from chaos.model.rescoping import Sharing
from chaos.model.spreading import Spread
from chaos.prediction.document import document
from chaos.prediction.page import page
from chaos.prediction.predicting import predict
from chaos.prediction.saved import read_objects, world_of
from tests.prediction import clusters

RESULTS = Path(__file__).parent / "results" / "predict.md"
NODES, OF_A_TENANT = 100, 10
OTHER = Sharing(MODES["ambient-namespace"], 2, Spread.ZONE)
SHAPES = {
    "ambient": (OF_A_TENANT, True),
    "sidecars": (OF_A_TENANT, False),
    "ambient, two workloads": (0, True),
    "sidecars, two workloads": (0, False),
}
T = TypeVar("T")


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds of the call, and its last answer."""
    begin = time.process_time()
    answer = call()
    return time.process_time() - begin, answer


def measured(shape: str, pods: int, folder: Path) -> str:
    """A row: reading, predicting, one more sharing, JSON and page."""
    each, ambient = SHAPES[shape]
    objects = clusters.istio(tenants=pods // (each or pods), pods=each or pods, nodes=NODES, ambient=ambient)
    file = folder / "objects.json"
    file.write_text(json.dumps(clusters.listed(objects)))
    reading, world = timed(lambda: world_of(read_objects([file]), None))
    asking, found = timed(lambda: predict(world))
    more, _ = timed(lambda: predict(world, sharings=[OTHER]))
    writing, text = timed(lambda: json.dumps(document(found)))
    drawing, html = timed(lambda: page(found))
    pairs = len(world.placement.pairs()) if each else (pods // 2) ** 2
    return (
        f"| {shape} | {pods:,} | {len(found.proxies):,} | {pairs:,} | {reading:.2f} | {asking:.2f} | "
        f"{more - asking:.2f} | {writing:.2f} | {drawing:.2f} | {len(text) / 1e6:.1f} | "
        f"{len(html.encode()) / 1e6:.2f} |"
    )


def main() -> None:
    """Measure, print, and with --write put it beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    write = parser.parse_args().write
    lines = [
        "# What a prediction costs",
        "",
        f"CPU seconds of one process, on {NODES} nodes in three zones, {OF_A_TENANT} pods a tenant"
        f" or all in one. {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"{datetime.now(UTC):%Y-%m-%d}. Again: `python -m benchmarks.predict --write`.",
        "",
        "| cluster | pods | proxies | pairs of pods | read and place | predict | another sharing | JSON | page | "
        "JSON, MB | page, MB |",
        "|---|" + "---:|" * 10,
    ]
    with tempfile.TemporaryDirectory() as folder:
        for shape in SHAPES:
            for pods in (1_000, 10_000):
                lines.append(measured(shape, pods, Path(folder)))
                print(lines[-1], flush=True)
    if write:
        RESULTS.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
