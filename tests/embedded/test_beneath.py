"""A node's directory is hostile ground: whatever lies in it, nothing outside of it is read, written or removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.embedded.beneath import Beneath, remove_tree
from chaos.embedded.kubelet.logs import MOST, read_log, tail_text
from chaos.embedded.kubelet.volumes import write_files
from chaos.embedded.node_api import LogOptions

SECRET = b"the machine's own\n"


@pytest.fixture
def ground(tmp_path: Path) -> tuple[Path, Path]:
    """(the node's directory, a directory of the machine's beside it)."""
    node, machine = tmp_path / "node", tmp_path / "machine"
    node.mkdir()
    (machine / "sub").mkdir(parents=True)
    (machine / "file").write_bytes(SECRET)
    (machine / "sub" / "file").write_bytes(SECRET)
    return node, machine


def _untouched(machine: Path) -> bool:
    return {str(p.relative_to(machine)): p.read_bytes() for p in machine.rglob("*") if p.is_file()} == {
        "file": SECRET,
        "sub/file": SECRET,
    }


def linked(at: Path, machine: Path) -> None:
    """A directory with a link to the machine's files and one to its root."""
    at.mkdir()
    (at / "x").symlink_to(machine)
    (at / "y").symlink_to("/")


# What a pod may have put at `a/b` of its node's directory before the server comes along.
PLANTS: dict[str, Callable[[Path, Path], object]] = {
    "link to a file": lambda at, machine: at.symlink_to(machine / "file"),
    "relative link": lambda at, machine: at.symlink_to("../../machine/file"),
    "link to a directory": lambda at, machine: at.symlink_to(machine),
    "link to the root": lambda at, machine: at.symlink_to("/"),
    "link to a process's root": lambda at, machine: at.symlink_to("/proc/self/root"),
    "dangling link": lambda at, machine: at.symlink_to(machine / "new"),
    "link to itself": lambda at, machine: at.symlink_to(at),
    "fifo": lambda at, machine: os.mkfifo(at),
    "device": lambda at, machine: os.mknod(at, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
    "directory of links": lambda at, machine: linked(at, machine),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_what_a_node_planted_is_neither_read_nor_followed(ground: tuple[Path, Path], plant: str) -> None:
    node, machine = ground
    (node / "a").mkdir()
    PLANTS[plant](node / "a" / "b", machine)
    beneath = Beneath(node)
    for path in ("a/b", "a/b/file", "a/b/sub/file", "a/../a/b"):
        with pytest.raises(OSError):
            beneath.read(path, 100)
    with pytest.raises(OSError):
        beneath.make("a/b/new/directory") if plant != "directory of links" else beneath.make("a/b/x/new")
    assert _untouched(machine)
    assert not (machine / "new").exists()


@pytest.mark.parametrize("plant", PLANTS)
def test_what_a_node_planted_is_replaced_and_removed_itself(ground: tuple[Path, Path], plant: str) -> None:
    node, machine = ground
    (node / "a").mkdir()
    PLANTS[plant](node / "a" / "b", machine)
    beneath = Beneath(node).below("a")
    if plant != "directory of links":
        beneath.write("b", b"ours")
        assert beneath.read("b", 100) == b"ours"
    beneath.remove("b")
    assert not os.path.lexists(node / "a" / "b")
    assert _untouched(machine)


@pytest.mark.parametrize("place", ["", "..data", "..1", "..2", "key", "sub", "..1/key", "..data/key"])
@pytest.mark.parametrize("plant", PLANTS)
def test_a_volume_is_written_whatever_lies_in_its_way(ground: tuple[Path, Path], plant: str, place: str) -> None:
    node, machine = ground
    volume = Beneath(node, "volumes/v")
    at = node / "volumes" / "v" / place
    if not place.startswith("..data/"):
        at.parent.mkdir(parents=True)
        PLANTS[plant](at, machine)
    else:
        write_files(volume, {"key": (b"0", 0o644)})
        at.unlink()
        PLANTS[plant](at, machine)
    files = {"key": (b"1", 0o644), "sub/key": (b"2", 0o600)}
    try:
        assert write_files(volume, files, group=7, owners={"key": 9})
    except OSError:
        assert place == ""  # in the volume's own place: said to the pod as FailedMount
    else:
        inside = node / "volumes" / "v"
        assert (inside / "key").resolve().read_bytes() == b"1"
        assert (inside / "sub").resolve().is_relative_to(inside)
        assert not write_files(volume, files)
    assert _untouched(machine)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "..", ".", "", "..x", "a/..", "a/", "a\0b", "a/../b", "/"]
)
def test_a_path_that_leads_out_of_a_volume_is_refused(ground: tuple[Path, Path], path: str) -> None:
    node, machine = ground
    with pytest.raises(OSError):
        write_files(Beneath(node, "v"), {path: (b"x", 0o644)})
    assert _untouched(machine)


@pytest.mark.parametrize("plant", PLANTS)
def test_a_log_is_a_regular_file_or_there_is_none(ground: tuple[Path, Path], plant: str) -> None:
    node, machine = ground
    PLANTS[plant](node / "0.log", machine)

    async def chunks() -> bytes:
        return b"".join([chunk async for chunk in read_log(Beneath(node), "0.log", LogOptions(), lambda: True)])

    with pytest.raises(LookupError):
        asyncio.run(chunks())
    assert tail_text(Beneath(node), "0.log", lines=3, limit=100) == ""


def test_a_tree_of_any_depth_is_removed_with_two_descriptors(ground: tuple[Path, Path]) -> None:
    node, machine = ground
    here = os.open(node, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=here)
        os.symlink(machine, "link", dir_fd=here)
        following = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = following
    os.close(here)
    remove_tree(node)
    assert not node.exists()
    assert _untouched(machine)


def test_a_tree_is_removed_while_its_directories_become_links(ground: tuple[Path, Path]) -> None:
    node, machine = ground
    over = threading.Event()

    def swap() -> None:
        while not over.wait(0.0005):
            with contextlib.suppress(OSError):
                os.symlink(machine, node / "new")
            with contextlib.suppress(OSError):
                os.rename(node / "tree" / "x", node / "aside")
                os.rename(node / "new", node / "tree" / "x")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(100):
            Beneath(node).make("tree")
            with contextlib.suppress(OSError):
                os.mkdir(node / "tree" / "x")
            Beneath(node).remove("tree")
            Beneath(node).remove("aside")
    finally:
        over.set()
        thread.join()
    assert _untouched(machine)


def _log(node: Path, rows: list[str]) -> Path:
    path = node / "0.log"
    path.write_text("".join(f"2026-01-01T00:00:{i:02d}.0Z stdout F {row}\n" for i, row in enumerate(rows)))
    return path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (LogOptions(), "old0\nold1\na\nb\rc\nd\n"),
        (LogOptions(tail_lines=0), ""),
        (LogOptions(tail_lines=1), "d\n"),
        (LogOptions(tail_lines=3), "a\nb\rc\nd\n"),
        (LogOptions(tail_lines=4), "old1\na\nb\rc\nd\n"),
        (LogOptions(tail_lines=99), "old0\nold1\na\nb\rc\nd\n"),
        (LogOptions(limit_bytes=6), "old0\no"),
        (LogOptions(tail_lines=2, limit_bytes=3), "b\rc"),
        (LogOptions(limit_bytes=0), ""),
    ],
)
def test_a_log_is_shown_by_its_options(ground: tuple[Path, Path], options: LogOptions, expected: str) -> None:
    node, _ = ground
    _log(node, ["old0", "old1"]).rename(node / "0.log.1")
    _log(node, ["a", "b\rc", "d"])

    async def text() -> str:
        chunks = read_log(Beneath(node), "0.log", options, lambda: True)
        return b"".join([chunk async for chunk in chunks]).decode()

    assert asyncio.run(text()) == expected


@pytest.mark.parametrize("name", ["0.log", "0.log.1"])
@pytest.mark.parametrize("fill", [b"", b"\n", b"x" * 100_000])
def test_of_a_log_that_somebody_made_huge_only_the_end_is_read(
    ground: tuple[Path, Path], name: str, fill: bytes
) -> None:
    node, _ = ground
    _log(node, ["before"]).rename(node / name)
    with (node / name).open("r+b") as file:
        file.truncate(1 << 42)  # a hole: it takes no room
        file.seek(0, os.SEEK_END)
        file.write(fill + b"\n2026-01-01T00:00:09.0Z stdout F after\n")
    if name != "0.log":
        _log(node, ["now"])

    async def text(options: LogOptions) -> bytes:
        return b"".join([chunk async for chunk in read_log(Beneath(node), "0.log", options, lambda: True)])

    assert asyncio.run(text(LogOptions(tail_lines=2))).endswith(b"after\nnow\n" if name != "0.log" else b"after\n")
    assert len(asyncio.run(text(LogOptions(tail_lines=10**9)))) <= MOST + 100
    assert len(asyncio.run(text(LogOptions()))) <= MOST + 100
    assert "after" in tail_text(Beneath(node), "0.log", lines=80, limit=2048)
