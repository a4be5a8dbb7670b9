"""Faults by name, and their settings."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chaos.cli import main
from chaos.errors import Misuse
from chaos.faults.catalogue import FAULTS, fault_class, fault_from, known_faults
from chaos.faults.hog import Hog
from chaos.faults.kill import Kill
from chaos.faults.model import Fault, settings_of
from chaos.faults.network.dns import Dns
from chaos.faults.network.drop import Drop
from chaos.faults.upgrade import Upgrade
from chaos.model.faulting import FaultShape
from chaos.resources import EXTENSIONS


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_of_the_catalogue_keeps_the_protocol(name: str) -> None:
    found = fault_class(name)
    assert found.name == name
    assert found.shape in FaultShape
    assert all(hasattr(found, method) for method in ("plan", "inject", "recover"))


def test_a_fault_comes_back_from_its_settings() -> None:
    fault: Fault = Kill(signal=15)
    assert fault_from("kill", settings_of(fault)) == fault


def test_an_unknown_fault_names_those_that_exist() -> None:
    with pytest.raises(Misuse, match=r"known are .*kill"):
        fault_class("kil")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(Misuse, match="no setting signl"):
        fault_from("kill", {"signl": 9})


THEIRS = """
import time
from dataclasses import dataclass
from typing import ClassVar

from sharedfate import Evidence, FaultShape, Need
from chaos.faults.model import Witness


@dataclass(frozen=True, slots=True)
class FillDisk:
    \"\"\"Fill a disk.\"\"\"

    name: ClassVar[str] = "fill-disk"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"disk"})
    witness: ClassVar[Witness] = Witness.NONE
    needs: ClassVar[tuple[Need, ...]] = (Need.HELPERS,)
    mib: int = 32

    def plan(self, cluster, target): return {}
    def inject(self, cluster, receipt): return Evidence(time.time_ns(), {})
    def recover(self, cluster, receipt): return Evidence(time.time_ns(), {})
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for faults of somebody's own, of which nothing is left afterwards."""
    monkeypatch.setenv(EXTENSIONS, str(tmp_path))
    (tmp_path / "faults").mkdir()
    monkeypatch.setattr(sys, "path", list(sys.path))
    known_faults.cache_clear()
    yield tmp_path / "faults"
    known_faults.cache_clear()
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def test_a_fault_in_a_folder_of_ones_own_is_known_by_its_files_name(theirs: Path) -> None:
    (theirs / "fill_disk.py").write_text(THEIRS)
    assert known_faults()["fill-disk"] == "fill_disk:FillDisk"
    assert settings_of(fault_from("fill-disk", {"mib": 8})) == {"mib": 8}
    with pytest.raises(Misuse, match="no setting size"):
        fault_from("fill-disk", {"size": 1})
    listed = CliRunner().invoke(main, ["faults"])
    assert "fill-disk (held, on container)" in listed.output


def test_a_fault_in_the_entry_points_of_a_package_is_known(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = theirs / "elsewhere"
    (package / "ours-1.0.dist-info").mkdir(parents=True)
    (package / "ours.py").write_text(THEIRS)
    (package / "ours-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: ours\nVersion: 1.0\n")
    (package / "ours-1.0.dist-info" / "entry_points.txt").write_text("[sharedfate.faults]\nfill-disk = ours:FillDisk\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(package)])
    importlib.invalidate_caches()
    assert fault_class("fill-disk").name == "fill-disk"


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("kill.py", THEIRS, "fault 'kill' of kill:Kill already exists"),
        ("disk_full.py", THEIRS, "disk_full:DiskFull cannot be imported"),
        ("fill_disk.py", "import nothing_like_it", "fill_disk:FillDisk cannot be imported"),
        ("fill_disk.py", "class FillDisk: pass", "fill_disk:FillDisk lacks name, shape, targets"),
        ("fill_disk.py", THEIRS.replace('"fill-disk"', '"other"'), "calls itself 'other'"),
        ("fill_disk.py", "1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("fill_disk.py", "raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("fill_disk.py", THEIRS.replace("mib: int = 32", "mib: list = []"), "cannot be imported: ValueError: mutable"),
        ("fill_disk.py", "FillDisk = 7", "lacks name, shape, targets"),
        ("fill_disk.py", THEIRS.replace("FaultShape.HELD", "'held'"), "shape is no FaultShape"),
        ("fill_disk.py", THEIRS.replace('{"container"}', '{"disk"}'), "targets is no frozenset of container, pod"),
        ("fill_disk.py", THEIRS.replace('frozenset({"disk"})', '"disk"'), "aspects is no frozenset of str"),
        ("fill_disk.py", THEIRS.replace("Witness.NONE", "None"), "witness is no Witness"),
        ("fill_disk.py", THEIRS.replace("(Need.HELPERS,)", "7"), "needs is no tuple of Need"),
        ("fill_disk.py", THEIRS.replace("mib: int = 32", "activity = 5"), "activity is no Activity"),
    ],
)
def test_a_fault_of_ones_own_that_is_not_right_is_refused_with_what_is_wrong(
    theirs: Path, file: str, text: str, says: str
) -> None:
    (theirs / file).write_text(text)
    with pytest.raises(Misuse, match=re.escape(says)):
        fault_class("-".join(Path(file).stem.split("_")) if file != "kill.py" else "unheard-of")


def test_a_folder_that_is_not_there_is_refused(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXTENSIONS, str(theirs / "nowhere"))
    with pytest.raises(Misuse, match="no such folder"):
        known_faults()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Drop(direction="up"),  # type: ignore[arg-type]  # what users write is not typed
        lambda: Drop(ports=(0,)),
        lambda: Drop(peers=("nobody",)),
        lambda: Dns(answer="maybe"),  # type: ignore[arg-type]
        lambda: Dns(address="x"),
        lambda: Hog(cores=0),
        lambda: Upgrade(),
    ],
)
def test_a_setting_that_means_nothing_is_refused(make: Any) -> None:
    with pytest.raises(Misuse):
        make()
