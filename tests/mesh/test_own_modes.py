"""Somebody's own modes, meshes and experiments, in a folder beside the package: found, read, and refused when wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.errors import Misuse
from chaos.mesh import modes
from chaos.mesh.modes import VARIABLE, carried, known_modes, mode_named, own_modes, parse_mode
from chaos.model.modes import MODES, Hop
from chaos.resources import EXTENSIONS, extend

TOP = Path(__file__).resolve().parents[2]
PLACED = {
    "sidecar": ["container"],
    "native-sidecar": ["init-container"],
    "node": ["daemonset"],
    "ambient-namespace": ["daemonset", "deployment"],
    "ambient-node": ["daemonset", "daemonset"],
    "ambient-pod": ["daemonset", "deployment"],
}


def hop(one: Hop) -> dict[str, Any]:
    return {"scope": str(one.scope), "side": str(one.side), "layers": sorted(map(str, one.layers))}


def row(mode: str) -> dict[str, Any]:
    """A mode that ships, as its file would have it."""
    found = MODES[mode]
    path = [hop(one) for one in found.hops]
    return {"stands-for": found.stands_for, "placed-by": PLACED[mode], "path": path}


@pytest.mark.parametrize("mode", PLACED)
def test_every_mode_that_ships_can_be_said_in_a_file(mode: str) -> None:
    assert parse_mode(mode, row(mode)) == MODES[mode]


NODE = row("node")
HOP = NODE["path"][0]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "is a list, and should be a mapping"),
        ({**NODE, "paths": []}, "paths is not known here, did you mean path"),
        ({"placed-by": ["daemonset"]}, "path is empty"),
        ({**NODE, "placed-by": []}, "placed-by names 0, and the path has 1 kinds of proxy"),
        ({**NODE, "placed-by": ["daemonset", "deployment"]}, "placed-by names 2, and the path has 1"),
        ({**NODE, "placed-by": ["statefulset"]}, "placed-by is statefulset: known are container"),
        ({**NODE, "path": "node@client"}, "path is a str, and should be a list"),
        ({**NODE, "path": ["node@client"]}, "path[0] is a str, and should be a mapping"),
        ({**NODE, "path": [{**HOP, "scope": "rack"}]}, "path[0].scope is 'rack': known are pod, node, namespace"),
        ({**NODE, "path": [{**HOP, "scope": "waypoint"}]}, "path[0].scope is 'waypoint'"),
        ({**NODE, "path": [{**HOP, "side": "middle"}]}, "path[0].side is 'middle': known are client, server"),
        ({**NODE, "path": [{**HOP, "layers": ["l3"]}]}, "path[0].layers is ['l3']: want l4, l7 or both"),
        ({**NODE, "path": [{**HOP, "layers": []}]}, "path[0].layers is []"),
        ({**NODE, "balancing": "luck"}, "balancing is 'luck': known are"),
        ({**NODE, "starts-first": 1}, "starts-first is 1"),
    ],
)
def test_a_row_that_is_wrong_is_refused_with_its_file_and_every_field(value: Any, says: str) -> None:
    with pytest.raises(Misuse, match=re.escape("modes/ours/mode.yaml: ")) as error:
        parse_mode("ours", value)
    assert says in str(error.value)


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An extension with the mode `init-proxy`, a copy of `native-sidecar`."""
    folder = tmp_path / "modes" / "init-proxy"
    shutil.copytree(TOP / "manifests" / "modes" / "native-sidecar", folder)
    (folder / "mode.yaml").write_text(yaml.safe_dump(row("native-sidecar")))
    monkeypatch.setenv(EXTENSIONS, str(tmp_path))
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    own_modes.cache_clear()
    modes._texts.cache_clear()


def test_a_mode_of_ones_own_is_known_beside_those_that_ship(theirs: Path) -> None:
    assert list(known_modes()) == [*MODES, "init-proxy"]
    assert mode_named("init-proxy").kinds == MODES["native-sidecar"].kinds
    with pytest.raises(Misuse, match=r"unknown proxy mode 'bogus': known are none, .*, init-proxy"):
        mode_named("bogus")


def test_what_runs_in_the_cluster_is_told_of_the_mode_and_needs_no_folder(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = carried("init-proxy")
    assert carried("node") == ""
    assert set(json.loads(told)["init-proxy"]) == {"mode.yaml"}
    expected = mode_named("init-proxy")
    monkeypatch.delenv(EXTENSIONS)
    monkeypatch.setenv(VARIABLE, told)
    forget()
    assert mode_named("init-proxy") == expected


@pytest.mark.parametrize(
    ("name", "files", "says"),
    [
        ("node", {"mode.yaml": "{}"}, "mode 'node' of an extension already exists"),
        ("rowless", {"pod.yaml": "{}"}, "mode 'rowless' of an extension: mode.yaml is missing"),
        ("odd", {"mode.yaml": "a: [1"}, "modes/odd/mode.yaml"),
    ],
)
def test_a_folder_that_is_no_mode_is_refused(theirs: Path, name: str, files: dict[str, str], says: str) -> None:
    (theirs / "modes" / name).mkdir()
    for file, text in files.items():
        (theirs / "modes" / name / file).write_text(text)
    forget()
    with pytest.raises(Misuse, match=re.escape(says)):
        known_modes()


def sharedfate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chaos.cli", "--extensions", str(folder), *arguments],
        env={name: value for name, value in os.environ.items() if name != EXTENSIONS},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_mode_of_ones_own_renders_as_the_one_that_it_copies(theirs: Path) -> None:
    app = str(TOP / "examples" / "shop.yaml")
    found = sharedfate(theirs, "render", "--mode", "init-proxy", "-f", app)
    assert found.returncode == 0, found.stderr
    ours, original = found.stdout, sharedfate(theirs, "render", "--mode", "native-sidecar", "-f", app).stdout
    images = [line for line in ours.splitlines() if "image: sharedfate/sharedfate:" in line]
    assert ours.count(f"name: {VARIABLE}") == len(images) - 2  # the shop's own are not of the mesh
    assert VARIABLE not in original
    assert {one["kind"] for one in yaml.safe_load_all(ours)} == {one["kind"] for one in yaml.safe_load_all(original)}


@pytest.mark.privileged
@pytest.mark.slow
def test_a_mode_of_ones_own_is_tried_like_any_other(theirs: Path, tmp_path: Path) -> None:
    command = ["run", "--modes", "init-proxy", "--scenarios", "proxy-killed"]
    options = [f"--chaos-extensions={theirs}", f"--chaos-out={tmp_path / 'out'}"]
    done = subprocess.run(
        [sys.executable, "-m", "chaos.cli", *command, "--", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "proxy-killed[init-proxy]  as predicted  tenant-a" in done.stdout


def test_experiments_and_meshes_of_ones_own_are_known_by_name(theirs: Path) -> None:
    (theirs / "experiments").mkdir()
    shutil.copy(TOP / "experiments" / "proxy-paused.yaml", theirs / "experiments" / "ours-hangs.yaml")
    (theirs / "meshes").mkdir()
    text = (TOP / "manifests" / "meshes" / "linkerd.yaml").read_text()
    (theirs / "meshes" / "ours.yaml").write_text(re.sub(r"name: linkerd", "name: ours", text))
    assert "ours-hangs" in sharedfate(theirs, "experiment", "list").stdout
    said = sharedfate(theirs, "render", "--mode", "bogus").stderr
    assert "init-proxy" in said
    refused = sharedfate(theirs, "run", "--modes", "bogus", "--", "--collect-only")
    assert ", ours" in refused.stderr + refused.stdout
    shutil.copy(TOP / "experiments" / "proxy-paused.yaml", theirs / "experiments" / "proxy-killed.yaml")
    twice = sharedfate(theirs, "experiment", "list")
    assert (twice.returncode, "experiment 'proxy-killed' of " in twice.stderr) == (4, True)


def test_an_extension_that_is_named_twice_is_taken_once(theirs: Path) -> None:
    extend([str(theirs), f"{theirs}/."])
    forget()
    assert list(known_modes()) == [*MODES, "init-proxy"]


def test_an_extension_that_is_not_there_is_refused_in_a_line(tmp_path: Path) -> None:
    found = sharedfate(tmp_path / "nowhere", "render", "--mode", "bogus")
    assert (found.returncode, len(found.stderr.splitlines())) == (4, 1)
    assert "no such folder" in found.stderr
