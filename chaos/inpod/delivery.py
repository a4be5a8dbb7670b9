"""Runs in a Job's pod: runs the suite, then prints its reports into the log, from which `sharedfate fetch` takes
them.

`python -m chaos.inpod.delivery --out DIR -- ARGUMENTS OF sharedfate run`. A pod that has ended can be asked for its log
and for nothing else. Histories stay behind when the archive would grow beyond what a kubelet keeps of a log. Ends with
the run's own exit code.
"""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

MARK = "sharedfate-results:"  # begins each line of the archive in the log
END = f"{MARK}end"
MOST_BYTES = 4 * 2**20  # of the archive, a third of it more in the log: a kubelet keeps 10 MiB of a file by default
_LINE = 3 * 1024  # bytes of the archive in a line
_REPORTS = ("report.json", "report.html", "report.md", "junit.xml", "run.json")


def pack(out: Path) -> bytes:
    """Return a run directory as a compressed archive: all of it, or only its reports where all is too large."""
    whole = _archive(out, sorted(path for path in out.rglob("*") if path.is_file()))
    if len(whole) <= MOST_BYTES:
        return whole
    return _archive(out, [out / name for name in _REPORTS if (out / name).is_file()])


def _archive(out: Path, files: Iterable[Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for file in files:
            archive.add(file, arcname=str(file.relative_to(out)), recursive=False)
    return buffer.getvalue()


def lines(archive: bytes) -> Iterator[str]:
    """Return the archive as lines of a log."""
    for begin in range(0, len(archive), _LINE):
        yield MARK + base64.b64encode(archive[begin : begin + _LINE]).decode()
    yield END


def taken(log: str) -> bytes | None:
    """Return the archive in a log; None when it is missing or incomplete."""
    parts = [line[len(MARK) :] for line in log.splitlines() if line.startswith(MARK)]
    if not parts or parts[-1] != END[len(MARK) :]:
        return None
    return b"".join(base64.b64decode(part) for part in parts[:-1])


def main(arguments: list[str]) -> int:
    out, rest = Path(arguments[arguments.index("--out") + 1]), arguments[arguments.index("--") + 1 :]
    code = subprocess.run(
        [sys.executable, "-m", "chaos.cli", "run", "--cluster", "in-cluster", "--out", str(out), *rest], check=False
    ).returncode
    if out.is_dir():
        for line in lines(pack(out)):
            print(line, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
