"""Embedded clusters from outside: up, down, status, clean, for the command line, the plugin and tests.

A cluster is a process with a run directory, /run/sharedfate/NAME. The process locks the directory while it lives; an
unlocked directory is the remains of a dead cluster, and `clean` removes them: processes (found by their cgroup),
mounts, cgroups, files. Network namespaces, links and rules are gone with the processes that held them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from chaos.errors import EnvironmentUnfit, ExperimentFailure, Misuse

RUN: Final = Path("/run/sharedfate")
UP_SECONDS: Final = 60.0
DOWN_SECONDS: Final = 15.0
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Status:
    """A cluster as seen from outside."""

    name: str
    state: str  # up | starting | dead
    pid: int | None
    kubeconfig: Path


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    line: socket.socket


_children: dict[str, _Child] = {}  # clusters that this process started


def preflight() -> list[str]:
    """What this machine lacks to run a cluster, one line each; empty when it lacks nothing."""
    missing = []
    if sys.platform != "linux":
        return [f"the embedded cluster needs Linux, this is {sys.platform}: use --chaos-cluster context:NAME"]
    if os.geteuid() != 0:
        missing.append(
            "not root: the embedded cluster makes namespaces, mounts and cgroups; run it with sudo or in a privileged "
            "container"
        )
    for binary, package in (("runc", "runc"), ("nft", "nftables"), ("ip", "iproute2")):
        if shutil.which(binary) is None:
            missing.append(f"{binary} is not on PATH: install it, e.g. apt-get install {package}")
    if "overlay" not in Path("/proc/filesystems").read_text():
        missing.append("the kernel has no overlay file system: modprobe overlay")
    for kind in ("net", "mnt", "pid", "cgroup"):
        if not Path(f"/proc/self/ns/{kind}").exists():
            missing.append(f"the kernel has no {kind} namespaces")
    from chaos.embedded.kubelet import cgroups

    try:
        found = cgroups.controllers()
        if "" not in found:
            missing += [f"cgroup controller {name} is not mounted" for name in ("cpu", "memory") if name not in found]
    except EnvironmentUnfit as error:
        missing.append(str(error))
    return missing


def run_directory(name: str) -> Path:
    """The run directory of the cluster `name`; raises Misuse for an invalid name."""
    if not _NAME.fullmatch(name):
        raise Misuse(f"cluster name {name!r}: want lower case letters, digits and dashes, at most 40")
    return RUN / name


def _lock(directory: Path) -> int | None:
    """Make the directory and take its lock; None when a living cluster holds it. Raises Misuse for a link: what it
    leads to is not the cluster's to lock or to remove.
    """
    while True:
        if directory.is_symlink():
            raise Misuse(f"{directory}: a symbolic link, and no run directory: remove it")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # its last holder removed it meanwhile
            descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), os.stat(directory / "lock")):
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                return None
            except FileNotFoundError:
                pass
            os.close(descriptor)


@contextlib.contextmanager
def claimed(name: str) -> Iterator[Path]:
    """Make and lock the run directory of a cluster that this process assembles itself, so that `clean` spares it while
    the process lives and finds its remains afterwards. Raises Misuse when it is taken.
    """
    directory = run_directory(name)
    lock = _lock(directory)
    if lock is None:
        raise Misuse(f"a cluster named {name!r} already runs: choose another name")
    try:
        _remove_remains(directory, keep_lock=True)
        yield directory
    finally:
        _remove_remains(directory, keep_lock=False)
        os.close(lock)


def up(name: str = "sharedfate", *, nodes: int | Sequence[str] = 2, keep: bool = False) -> Path:
    """Start a cluster and wait until its nodes are Ready; return the path of its kubeconfig.

    Without `keep` the cluster ends when this process does, however this process ends. Raises EnvironmentUnfit, before
    anything is started, when the machine lacks something, and Misuse when a cluster of that name already runs (with
    `keep`, that one is used).
    """
    directory = run_directory(name)
    wanted = str(nodes) if isinstance(nodes, int) else ",".join(nodes)
    if missing := preflight():
        raise EnvironmentUnfit("; ".join(missing))
    lock = _lock(directory)
    if lock is None:
        if keep and (directory / "ready").exists():
            return directory / "kubeconfig"
        raise Misuse(
            f"a cluster named {name!r} already runs (pid {_pid(directory)}): choose another name, or end it with "
            f"`sharedfate cluster down --name {name}`"
        )
    ours, theirs = socket.socketpair()
    try:
        try:
            _remove_remains(directory, keep_lock=True)
            if not keep:  # before the process: who ends a cluster without an owner must see that it had one
                (directory / "owner").write_text(f"{os.getpid()} {_began(os.getpid())}\n")
            _children[name] = _Child(_begin(directory, wanted, keep=keep, line=theirs, lock=lock), ours)
        finally:
            theirs.close()
            os.close(lock)
        words = _first_words(ours)
        told_to_end = not words and _children[name].process.wait() == 0
    except BaseException:  # an interrupt: nobody else knows of this cluster yet
        ours.close()  # and a process that is not known here either ends with its line
        _give_up(name)
        raise
    if words == "ready":
        return directory / "kubeconfig"
    if told_to_end:
        _give_up(name)
        raise EnvironmentUnfit(f"the embedded cluster {name} was told to end, by somebody else, while it started")
    log = directory / "log"
    said = log.read_bytes() if log.exists() else b""
    tail = words.removeprefix("failed: ") or _last_line(said) or "it said nothing"
    _give_up(name)
    where = f" (its log, until the next `sharedfate clean`: {log})" if _keep(log, said) else ""
    raise EnvironmentUnfit(f"the embedded cluster did not start: {tail}{where}")


def _give_up(name: str) -> None:
    """End what this process began under the name, and remove its remains; a cluster that somebody else has begun under
    it since stays.
    """
    child = _children.get(name)
    if child is None:
        down(name)
        return
    _end(child.process.pid)
    _reap(name)
    clean(name)


def _keep(log: Path, said: bytes) -> bool:
    """Write the log of a cluster that is no more; False where another cluster has its directory."""
    lock = _lock(log.parent)
    if lock is None:
        return False
    log.write_bytes(said)
    os.close(lock)
    return True


def _begin(directory: Path, nodes: str, *, keep: bool, line: socket.socket, lock: int) -> subprocess.Popen[bytes]:
    """Begin the process of a cluster; it takes over the lock of its run directory."""
    command = [
        sys.executable,
        "-P",  # a package `chaos` of the working directory is not ours
        "-m",
        "chaos.embedded",
        "--dir",
        str(directory),
        "--name",
        directory.name,
        "--nodes",
        nodes,
        "--runner-fd",
        str(line.fileno()),
        "--lock-fd",
        str(lock),
        *(["--keep"] if keep else []),
    ]
    with open(directory / "log", "ab") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=[line.fileno(), lock],
            start_new_session=True,
        )


def _first_words(line: socket.socket) -> str:
    """The cluster's first message: `ready`, `failed: …`, or "" when it died or timed out."""
    line.settimeout(UP_SECONDS)
    words = b""
    try:
        while not words.endswith(b"\n"):
            chunk = line.recv(4096)
            if not chunk:
                break
            words += chunk
    except (TimeoutError, ConnectionError):
        return f"failed: not ready after {UP_SECONDS:g} s"
    return words.decode(errors="replace").strip()


def _last_line(log: bytes) -> str:
    lines = [line for line in log.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _pid(directory: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((directory / "pid").read_text())
    return None


def down(name: str = "sharedfate") -> bool:
    """Stop a cluster and remove its run directory; False when there is none. Raises ExperimentFailure when something
    stays.
    """
    directory = run_directory(name)
    alive = _is_alive(directory)
    pid = _pid(directory) or _begun(name) if alive else None
    if pid is not None:
        _end(pid)
    _reap(name)
    if alive and pid is None:
        _end_orphan(directory)
    if not directory.exists():
        return False
    if left := clean(name):
        remains = [one for one in left if not one.startswith("directory")]
        if remains and pid is not None:
            raise ExperimentFailure(f"cluster {name} stopped and left behind: {'; '.join(remains)} (now removed)")
    return True


def ended(name: str) -> str:
    """Why a cluster that this process started has ended, in one sentence; "" while it lives or when unknown."""
    child = _children.get(name)
    if child is None or (code := child.process.poll()) is None:
        return ""
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return (
        f"the embedded cluster {name} has ended {how}; its log, until the next `sharedfate clean`: {RUN / name / 'log'}"
    )


@contextlib.contextmanager
def watched(name: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Call `tell`, from a thread, if a cluster that this process started ends before the block does."""
    child = _children.get(name)
    if child is None:
        yield
        return
    over = threading.Event()
    descriptor = os.pidfd_open(child.process.pid)

    def watch() -> None:
        while not over.is_set():
            if select.select([descriptor], [], [], 0.5)[0] and not over.is_set():
                tell(ended(name))
                return

    thread = threading.Thread(target=watch, daemon=True, name="cluster-watch")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        os.close(descriptor)


def _begun(name: str) -> int | None:
    """The process of a cluster that this process started, which may not have said its own number yet."""
    child = _children.get(name)
    return child.process.pid if child is not None and child.process.poll() is None else None


def _reap(name: str) -> None:
    """Close the socket to a cluster that this process started, and collect its exit status."""
    child = _children.pop(name, None)
    if child is None:
        return
    child.line.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(DOWN_SECONDS)


def _end(pid: int) -> None:
    """Send SIGTERM, then SIGKILL; return when the process is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not select.select([descriptor], [], [], DOWN_SECONDS)[0]:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], DOWN_SECONDS)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def _is_alive(directory: Path) -> bool:
    """Whether a cluster holds the directory's lock."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def status(name: str = "sharedfate") -> Status | None:
    """The status of the cluster `name`; None when nothing of it exists."""
    directory = run_directory(name)
    if not directory.exists():
        return None
    alive = _is_alive(directory)
    state = ("up" if (directory / "ready").exists() else "starting") if alive else "dead"
    return Status(name, state, _pid(directory) if alive else None, directory / "kubeconfig")


def names() -> list[str]:
    """Names of all clusters with a run directory or cgroup."""
    from chaos.embedded.kubelet import cgroups

    found = {path.name for path in RUN.iterdir() if path.is_dir() and not path.is_symlink()} if RUN.is_dir() else set()
    with contextlib.suppress(EnvironmentUnfit):
        for root in cgroups.controllers().values():
            top = Path(root + cgroups.ROOT)
            if top.is_dir():
                found |= {path.name for path in top.iterdir() if path.is_dir()}
    return sorted(name for name in found if _NAME.fullmatch(name))


def clean(name: str | None = None) -> list[str]:
    """Remove what dead clusters left, of one name or of all, and end clusters whose owner is gone; one line for each
    thing removed. Other living clusters stay.
    """
    removed = []
    for one in [name] if name is not None else names():
        directory = run_directory(one)
        if _is_orphan(directory):
            _end_orphan(directory)
        lock = _lock(directory)
        if lock is None:
            continue
        try:
            _reap(one)
            removed += _remove_remains(directory, keep_lock=False)
        finally:
            os.close(lock)
    return removed


def detect_remains(name: str | None = None) -> list[str]:
    """What `clean` would remove, in its words, one line each; removes nothing."""
    found = []
    for one in [name] if name is not None else names():
        directory = run_directory(one)
        if _is_alive(directory) and not _is_orphan(directory):
            continue
        found += _remains(directory)
    return found


def _is_orphan(directory: Path) -> bool:
    """Whether the process that owns the cluster is gone; False for a cluster that outlives its owner (`keep`)."""
    try:
        pid, _, began = (directory / "owner").read_text().strip().partition(" ")
    except OSError:
        return False
    return _began(int(pid)) != began if pid.isdigit() else False


def _began(pid: int) -> str:
    """When a process started, in clock ticks (proc(5)); "" when there is none, or only a zombie."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


def _end_orphan(directory: Path) -> None:
    """End a cluster whose owner is gone; return when its lock is free. It gets DOWN_SECONDS to end by itself."""
    end = time.monotonic() + DOWN_SECONDS
    while _is_alive(directory) and time.monotonic() < end:
        time.sleep(0.05)
    pid = _pid(directory)
    if pid is not None and _is_alive(directory):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while _is_alive(directory) and time.monotonic() < end + DOWN_SECONDS:
            time.sleep(0.02)


def running(name: str) -> Status:
    """The status of the cluster `name`; raises Misuse when it is not up."""
    found = status(name)
    if found is None or found.state != "up":
        raise Misuse(f"no cluster named {name!r} is up: start it with `sharedfate cluster up --name {name}`")
    return found


def load_image(name: str, archive: Path) -> list[str]:
    """Load an OCI or docker archive into a cluster; names of its images."""
    from chaos.embedded.kubelet import Images

    return Images(running(name).kubeconfig.parent / "images").load(archive)


def _remove_remains(directory: Path, *, keep_lock: bool) -> list[str]:
    """Remove everything of a dead cluster; the caller holds its lock."""
    from chaos.embedded.kubelet import cgroups

    removed: list[str] = []
    tree = f"{cgroups.ROOT}/{directory.name}"
    roots = [Path(root + tree) for root in set(cgroups.controllers().values())]
    removed += [f"process {pid}" for pid in sorted(_kill_all(directory, tree))]
    if any(root.exists() for root in roots):
        cgroups.remove_tree(tree)
        removed.append(f"cgroup {tree}")
    for mount in _mounts(directory):
        done = subprocess.run(["umount", "--lazy", mount], capture_output=True, text=True, check=False)
        removed.append(f"mount {mount}" if done.returncode == 0 else f"mount {mount}: {done.stderr.strip()}")
    entries = [path for path in directory.iterdir() if not (keep_lock and path.name == "lock")]
    if any(path.name != "lock" for path in entries):
        removed.append(f"directory {directory}")
    for path in entries:
        _delete(path)
    if not keep_lock:
        with contextlib.suppress(OSError):
            directory.rmdir()
    return removed


def _remains(directory: Path) -> list[str]:
    """What `_remove_remains` would remove, in its words."""
    from chaos.embedded.kubelet import cgroups

    tree = f"{cgroups.ROOT}/{directory.name}"
    found = [f"process {pid}" for pid in sorted(_processes(directory, tree))]
    if any(Path(root + tree).exists() for root in set(cgroups.controllers().values())):
        found.append(f"cgroup {tree}")
    found += [f"mount {mount}" for mount in _mounts(directory)]
    if directory.exists() and any(path.name != "lock" for path in directory.iterdir()):
        found.append(f"directory {directory}")
    return found


def end_without_trace(directory: Path) -> NoReturn:
    """Remove the run directory of this process's cluster, which has stopped and whose runner will not, and end this
    process at once, so that whoever finds no directory finds no process either. With a mount below it, the directory
    stays for `clean`: what is mounted is not the cluster's to delete.
    """
    if not _mounts(directory):
        with open(os.devnull, "wb") as nowhere:  # the log is of the directory
            for stream in (sys.stdout, sys.stderr):
                os.dup2(nowhere.fileno(), stream.fileno())
        for path in sorted(directory.iterdir(), key=lambda path: path.name == "lock"):  # the lock goes last
            _delete(path)
        with contextlib.suppress(OSError):
            directory.rmdir()
    os._exit(0)


def end_by_force(directory: Path) -> None:
    """Kill everything of this process's cluster, which failed to stop by itself, and then this process."""
    from chaos.embedded.kubelet import cgroups

    tree = f"{cgroups.ROOT}/{directory.name}"
    with contextlib.suppress(Exception):  # whatever stands in the way of one step: the next is tried
        _kill_all(directory, tree, spare=os.getpid())
    for mount in _mounts(directory):
        subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
    with contextlib.suppress(Exception):
        cgroups.remove_tree(tree)
    os._exit(70)


def _delete(path: Path) -> None:
    for _ in range(50):  # a killed process may still be closing its files
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            return
        except OSError:
            time.sleep(0.02)
    shutil.rmtree(path, ignore_errors=True)


def _kill_all(directory: Path, tree: str, *, spare: int = 0) -> set[int]:
    """Kill the cluster's processes until none is left: a process may fork before it is killed."""
    killed: set[int] = set()
    end = time.monotonic() + DOWN_SECONDS
    while (found := [pid for pid in _processes(directory, tree) if pid != spare]) and time.monotonic() < end:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= set(found)
        time.sleep(0.005)
    return killed


def _processes(directory: Path, tree: str) -> list[int]:
    """Processes in the cgroup tree, and those outside it whose stderr is a file of the run directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            groups = [line.split(":", 2)[2] for line in (entry / "cgroup").read_text().splitlines()]
            output = os.readlink(entry / "fd" / "2")
            if any(group == tree or group.startswith(f"{tree}/") for group in groups) or output.startswith(
                f"{directory}/"
            ):
                found.append(int(entry.name))
    return found


def _mounts(directory: Path) -> list[str]:
    """Mount points at or below the directory, innermost first."""
    prefix = str(directory)
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((one for one in points if one == prefix or one.startswith(prefix + "/")), key=len, reverse=True)
