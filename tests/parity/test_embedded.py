"""The embedded cluster beside a real Kubernetes: every recorded scenario lived through again, compared by the recordings' rule.

The short ones run side by side in the default set; the long ones, and the nodes' own, on demand (`-m slow`).
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.parity.drive import Drive, bench, names_in_daemon_order, recorded_seconds

RECORDINGS = Path(__file__).parent / "recordings"
SIDE_BY_SIDE = 14
APART = 0.4  # seconds between two starts: a start is the only moment at which a scenario needs much of the machine
SHORT = 25.0  # seconds

pytestmark = pytest.mark.privileged


def length(scenario: str) -> float:
    return recorded_seconds(RECORDINGS / scenario)


ALL = sorted(folder.name for folder in RECORDINGS.iterdir() if folder.is_dir())
ON_NODES = [name for name in ALL if name.startswith("node-")]
QUICK = [name for name in ALL if name not in ON_NODES and length(name) < SHORT]
LONG = [name for name in ALL if name not in ON_NODES and name not in QUICK]


def live(scenarios: list[str], out: Path, *, side_by_side: int) -> dict[str, list[str]]:
    """Differences of each scenario, longest first so that the last to end is a short one."""

    async def main() -> dict[str, list[str]]:
        turns = asyncio.Semaphore(side_by_side)
        found: dict[str, list[str]] = {}
        async with bench() as on:

            async def one(number: int, name: str) -> None:
                await asyncio.sleep(APART * number)
                async with turns:
                    found[name] = ["did not finish"]
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(3 * length(name) + 60):
                            found[name] = await Drive(on, RECORDINGS / name, out / name).run()

            await asyncio.gather(*(one(*entry) for entry in enumerate(sorted(scenarios, key=length, reverse=True))))
        return found

    return asyncio.run(main())


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return live(QUICK, tmp_path_factory.mktemp("quick"), side_by_side=SIDE_BY_SIDE)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return live(LONG, tmp_path_factory.mktemp("long"), side_by_side=SIDE_BY_SIDE)


@pytest.mark.parametrize("scenario", QUICK)
def test_a_short_scenario_goes_as_on_a_real_kubernetes(scenario: str, quick: dict[str, list[str]]) -> None:
    assert quick[scenario] == []


@pytest.mark.slow
@pytest.mark.parametrize("scenario", LONG)
def test_a_long_scenario_goes_as_on_a_real_kubernetes(scenario: str, long: dict[str, list[str]]) -> None:
    assert long[scenario] == []


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ON_NODES)
def test_a_nodes_trouble_goes_as_on_a_real_kubernetes(scenario: str, tmp_path: Path) -> None:
    async def main() -> list[str]:
        names = names_in_daemon_order(RECORDINGS / scenario)
        async with bench(sorted(names.values())) as on:
            return await Drive(on, RECORDINGS / scenario, tmp_path, nodes=names).run()

    assert asyncio.run(main()) == []
