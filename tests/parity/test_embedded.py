"""The embedded cluster beside a real Kubernetes: every recorded scenario lived through again, compared by the
recordings' rule.

The short ones run side by side in the default set; the long ones, and the nodes' own, on demand (`-m slow`).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.parity.drive import Drive, bench, names_in_daemon_order, recorded_seconds

RECORDINGS = Path(__file__).parent / "recordings"
SIDE_BY_SIDE = 14
APART = 0.4  # seconds between two starts: a start is the only moment at which a scenario needs much of the machine
SHORT = 25.0  # seconds
MINUTES = 120.0  # a scenario that is watched for longer is not lived through ten times
TEN = 10
HALF = 5  # of them at once: with more side by side the machine is what is compared

pytestmark = pytest.mark.privileged


def length(scenario: str) -> float:
    return recorded_seconds(RECORDINGS / scenario)


ALL = sorted(folder.name for folder in RECORDINGS.iterdir() if folder.is_dir())
ON_NODES = [name for name in ALL if name.startswith("node-")]
QUICK = [name for name in ALL if name not in ON_NODES and length(name) < SHORT]
LONG = [name for name in ALL if name not in ON_NODES and name not in QUICK]


def live(scenarios: list[str], out: Path, *, side_by_side: int = SIDE_BY_SIDE, times: int = 1) -> dict[str, list[str]]:
    """Differences of each scenario, lived through so many times; longest first so that the last to end is a short
    one.
    """

    async def main() -> dict[str, list[str]]:
        turns = asyncio.Semaphore(side_by_side)
        found: dict[str, list[str]] = {name: [] for name in scenarios}
        async with bench() as on:

            async def one(order: int, name: str, number: int) -> None:
                await asyncio.sleep(APART * order)
                async with turns:
                    try:
                        async with asyncio.timeout(3 * length(name) + 60):
                            problems = await Drive(on, RECORDINGS / name, out / f"{name}-{number}", number=number).run()
                    except TimeoutError:
                        problems = ["did not finish"]
                    found[name] += [f"{number}: {problem}" if times > 1 else problem for problem in problems]

            runs = [
                (name, number) for name in sorted(scenarios, key=length, reverse=True) for number in range(1, times + 1)
            ]
            await asyncio.gather(*(one(order, *run) for order, run in enumerate(runs)))
        return found

    return asyncio.run(main())


async def live_on_nodes(scenario: str, out: Path) -> list[str]:
    """Differences of a scenario that breaks nodes: on nodes of its own."""
    names = names_in_daemon_order(RECORDINGS / scenario)
    async with bench(sorted(names.values()) or ("n1", "n2", "n3")) as on:
        return await Drive(on, RECORDINGS / scenario, out, nodes=names).run()


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return live(QUICK, tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return live(LONG, tmp_path_factory.mktemp("long"))


@pytest.mark.parametrize("scenario", QUICK)
def test_a_short_scenario_goes_as_on_a_real_kubernetes(
    scenario: str, quick: dict[str, list[str]], tmp_path: Path
) -> None:
    """What differs beside thirteen others is lived through again by itself: a full machine moves moments."""
    assert not quick[scenario] or live([scenario], tmp_path)[scenario] == [], quick[scenario]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", LONG)
def test_a_long_scenario_goes_as_on_a_real_kubernetes(
    scenario: str, long: dict[str, list[str]], tmp_path: Path
) -> None:
    assert not long[scenario] or live([scenario], tmp_path)[scenario] == [], long[scenario]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ON_NODES)
def test_a_nodes_trouble_goes_as_on_a_real_kubernetes(scenario: str, tmp_path: Path) -> None:
    assert asyncio.run(live_on_nodes(scenario, tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("half", range(TEN // HALF))
def test_ten_of_every_scenario_go_as_on_a_real_kubernetes(half: int, tmp_path: Path) -> None:
    """Side by side rather than one after the other: that is quicker, and harder."""
    found = live([name for name in (*QUICK, *LONG) if length(name) < MINUTES], tmp_path, times=HALF)
    assert {name: problems for name, problems in found.items() if problems} == {}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ON_NODES)
def test_ten_of_every_nodes_trouble_go_as_on_a_real_kubernetes(scenario: str, tmp_path: Path) -> None:
    async def main() -> list[list[str]]:
        async def one(number: int) -> list[str]:
            await asyncio.sleep(2 * number)
            return await live_on_nodes(scenario, tmp_path / str(number))

        return list(await asyncio.gather(*(one(number) for number in range(TEN))))

    assert asyncio.run(main()) == [[]] * TEN
