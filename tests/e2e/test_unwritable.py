"""`--out` where nothing can be written: one line that names the place and why, exit code 4, and no trace; of `run` and
of plain pytest. In a mount namespace of its own. The next such place is a row.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import chaos.suite

pytestmark = pytest.mark.privileged

# How the place is made, in a shell: the run directory (below where it begins), and what is said of it.
PLACES = {
    "below a read-only file system": ("mount -t tmpfs -o ro none .", "out", "Read-only file system"),
    "a read-only directory": ("mount -t tmpfs -o ro none .", ".", "Read-only file system"),
    "a file": ("touch out", "out", "exists, and is none of an earlier run"),
    "below a file": ("touch file", "file/out", "Not a directory"),
    "a pipe": ("mkfifo out", "out", "exists, and is none of an earlier run"),
    "a loop of links": ("ln -s a b; ln -s b a", "a", "File exists"),
    "below a loop of links": ("ln -s a b; ln -s b a", "a/out", "Too many levels of symbolic links"),
    "a full disk": (
        "mount -t tmpfs -o size=4k none . && cd $PWD && dd if=/dev/zero of=full bs=4096 count=9 2>&-",
        "out",
        "No space left on device",
    ),
    "a disk without inodes": ("mount -t tmpfs -o nr_inodes=1 none .", "out", "No space left on device"),
    "/proc": (":", "/proc/out", "No such file or directory"),
    "/sys": (":", "/sys/out", "Operation not permitted"),
    "a name that is too long": (":", "x" * 300, "File name too long"),
    "files that are directories": ("mkdir -p out/run.json", "out", "exists, and is none of an earlier run"),
}
COMMANDS = {
    "run": ["-m", "chaos", "run", "--modes=none", "--scenarios=app-rolled-out", "--out={out}"],
    "pytest": ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--chaos-modes=none", "--chaos-out={out}",
               "--chaos-scenarios=app-rolled-out", str(Path(chaos.suite.__path__[0]))],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_place_where_nothing_can_be_written_is_one_line(tmp_path: Path, place: str, command: str) -> None:
    making, out, why = PLACES[place]
    where = out if out.startswith("/") else str(tmp_path / "place" / out)
    (tmp_path / "place").mkdir()
    told = [one.format(out=where) for one in COMMANDS[command]]
    making = making.replace(" none .", f" none {tmp_path}/place")
    script = f'cd {tmp_path}/place; {making}; cd {tmp_path}/place; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, *told],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 4, said
    assert "Traceback" not in said
    assert "INTERNALERROR" not in said
    assert len([line for line in done.stderr.splitlines() if why in line]) == 1, said
