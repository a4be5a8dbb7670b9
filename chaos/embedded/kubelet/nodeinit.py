"""The first process of an emulated node: makes the node's own little machine, then starts and reaps everything in it.

Run by path with the plain interpreter (`python -I -S nodeinit.py FD`), never imported by the server: it must start in a
few milliseconds and hold nothing of the server's. It moves into the node's cgroup, unshares every namespace, builds a
root (a skeleton with the machine's programs mounted into it, and nothing else of the machine's), and as PID 1 of the
node serves the server's requests over a socket of JSON datagrams. It dies with the server, and the kernel ends the node
with it.

Requests carry `id` and get one reply with that `id`. Events are unsolicited: `exit` of a container, `sandbox` (its
pause process was killed), `done` of a job.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import select
import shutil
import signal
import socket
import stat
import struct
import sys
import time
from typing import Any, Final, Protocol

LIBC: Final = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000, 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000)  # fmt: skip
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
    1 << 20,
)
MNT_DETACH: Final = 2
SYS_OPENAT2: Final = 437
RESOLVE_BENEATH: Final = 0x08 | 0x02  # and through no link of /proc
PR_SET_PDEATHSIG: Final = 1
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
LINUX_CAPABILITY_VERSION_3: Final = 0x20080522
MKNOD: Final = 27
FORBIDDEN: Final = (
    2,  # DAC_READ_SEARCH: opens any file of a mounted file system by its handle
    9,  # LINUX_IMMUTABLE
    16,  # SYS_MODULE
    17,  # SYS_RAWIO
    20,  # SYS_PACCT
    22,  # SYS_BOOT
    25,  # SYS_TIME
    26,  # SYS_TTY_CONFIG
    MKNOD,
    30,  # AUDIT_CONTROL
    32,  # MAC_OVERRIDE
    33,  # MAC_ADMIN
    34,  # SYSLOG
    35,  # WAKE_ALARM
    36,  # BLOCK_SUSPEND
    37,  # AUDIT_READ
    38,  # PERFMON
)  # capabilities of a node, by their numbers in linux/capability.h: none
HOME: Final = (
    "/var/lib/sharedfate"  # the node's own: containers' writable layers and the image that is the installation
)
NAMESPACES: Final = "/run/netns"
MOST_CONFIGURATIONS: Final = 8  # of a node's network
CONFIGURATION_BYTES: Final = 16 << 10
CONSOLE_SECONDS: Final = 1.0  # for what runc has sent already
LINE: Final = 16384  # longest log line in one piece, as containerd's
TAPPED: Final = 64 << 10  # bytes that one who is attached may lag behind before the container's writes wait for him
LOG_BYTES: Final = 10 << 20  # a log is rotated at this size, as a kubelet's default
ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def call(name: str, *arguments: Any) -> int:
    """Call a libc function by name; raises OSError with the function's name in it."""
    result: int = getattr(LIBC, name)(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}{arguments}: {os.strerror(code)}")
    return result


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode() or None)


def bind(source: str, target: str, *, readonly: bool) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(source, target, "", MS_BIND | MS_REC)
    if readonly:
        mount("", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY)


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def open_beneath(directory: int, path: str, flags: int) -> int:
    """Open a path with openat2(2): links are followed, but only to targets beneath the directory."""
    how = ctypes.create_string_buffer(struct.pack("QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_BENEATH), 24)
    return call("syscall", SYS_OPENAT2, directory, path.encode(), how, ctypes.c_size_t(24))


def show_part(part: dict[str, Any], target: str) -> str:
    """Mount a part of a volume at `target`, never what a link in the volume names outside of it; `target`."""
    here = os.open(part["source"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        names = [name for name in part["part"].split("/") if name not in ("", ".")]
        if part["make"]:
            for depth in range(len(names)):
                parent = open_beneath(here, "/".join(names[:depth]) or ".", os.O_PATH)
                mask = os.umask(0)  # as open as the volume itself: the container's user is to write there
                with contextlib.suppress(FileExistsError, NotADirectoryError):
                    os.mkdir(names[depth], 0o777, dir_fd=parent)
                os.umask(mask)
                os.close(parent)
        found = open_beneath(here, "/".join(names) or ".", os.O_PATH)
    finally:
        os.close(here)
    try:
        if stat.S_ISDIR(os.fstat(found).st_mode):
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        mount(f"/proc/self/fd/{found}", target, "", MS_BIND | MS_REC)
    finally:
        os.close(found)
    return target


# --- becoming a node -------------------------------------------------------------------------------------------------


def make_masks(layer: str, masks: list[str]) -> None:
    """Make an overlay layer that hides directories (opaque) and files (whiteouts) of the layers below it."""
    for path in masks:
        target = layer + path
        if os.path.islink(path):
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
            os.setxattr(target, "trusted.overlay.opaque", b"y")
            os.chmod(target, 0o1777 if path in ("/tmp", "/var/tmp") else 0o755)
        elif os.path.exists(path) and not os.path.exists(target):
            os.mknod(target, stat.S_IFCHR, 0)


def make_skeleton(directory: str, plan: dict[str, Any]) -> None:
    """Make the root of a node and of the installation's image, without programs: empty directories, links, users, and
    copies of the settings on the list.

    In each node's own memory: on disk, hundreds of small files cost more than all else of a cluster's start and end.
    """
    for name in plan["empty"]:
        os.makedirs(f"{directory}/{name}", exist_ok=True)
    os.mkdir(f"{directory}/root")
    os.chmod(f"{directory}/root", 0o711)  # not to be looked into, and passed: the installation may lie below it
    for name in ("tmp", "var/tmp"):
        os.chmod(f"{directory}/{name}", 0o1777)
    for name, target in {"var/run": "/run", "var/lock": "/run/lock", **plan["links"]}.items():
        os.symlink(target, f"{directory}/{name}")
    for name in plan["settings"]:
        copy_public(f"/etc/{name}", f"{directory}/etc/{name}")
    for name, text in plan["users"].items():
        write(f"{directory}/etc/{name}", text)
    os.chmod(directory, 0o755)


def copy_public(source: str, target: str) -> None:
    """Copy world-readable files and directories of them; links stay links."""
    try:
        status = os.lstat(source)
        if stat.S_ISLNK(status.st_mode):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.symlink(os.readlink(source), target)
        elif stat.S_ISDIR(status.st_mode) and status.st_mode & 0o005 == 0o005:
            os.makedirs(target, exist_ok=True)
            for name in os.listdir(source):
                copy_public(f"{source}/{name}", f"{target}/{name}")
        elif stat.S_ISREG(status.st_mode) and status.st_mode & 0o004:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(source, target, follow_symlinks=False)
            os.chmod(target, status.st_mode & 0o755)
    except FileNotFoundError:
        return  # a machine without it


def lay(name: str, target: str, lower: list[str], upper: str, work: str) -> None:
    """Mount an overlay, writable in `upper`."""
    mount(name, target, "overlay", 0, f"lowerdir={':'.join(lower)},upperdir={upper},workdir={work}")


def lay_image(lower: list[str], directory: str) -> None:
    """Mount a container's root over an image's layers, named from their common directory: a mount's options are a page,
    and an image may have 127 layers.
    """
    images = f"{HOME}/images"
    os.chdir(images)
    try:
        names = [layer.removeprefix(images + "/") for layer in lower]
        lay("container", f"{directory}/root", names, f"{directory}/up", f"{directory}/work")
    finally:
        os.chdir("/")


def make_root(config: dict[str, Any]) -> None:
    """Build the node's mounts in the new mount namespace, with the node's root as `/` at the end."""
    base = config["base"]
    mount("", "/", "", MS_REC | MS_PRIVATE)
    mount("node", base, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=50%")
    for name in ("mask", "upper", "work", "root", "skeleton"):
        os.mkdir(f"{base}/{name}")
    make_skeleton(f"{base}/skeleton", config["skeleton"])
    make_masks(f"{base}/mask", config["masks"])
    for path in config["binds"]:  # places to put them, where a container cannot make any
        if os.path.isdir(path) and any(path.startswith(program + "/") for program in config["programs"]):
            os.makedirs(f"{base}/mask{path}", exist_ok=True)
    root = f"{base}/root"
    lay("node", root, [f"{base}/skeleton"], f"{base}/upper", f"{base}/work")
    for index, path in enumerate(config["programs"]):  # the machine's own, below what hides the rest of it
        os.makedirs(base + "/mask" + path, exist_ok=True)
        os.makedirs(root + path, exist_ok=True)
        for name in ("programs-upper", "programs-work"):
            os.mkdir(f"{base}/{name}-{index}")
        lower = [base + "/mask" + path, path]
        lay("programs", root + path, lower, f"{base}/programs-upper-{index}", f"{base}/programs-work-{index}")
    os.makedirs(root + HOME, exist_ok=True)
    mount("containers", root + HOME, "tmpfs", 0, "mode=0700,size=50%")
    for name in ("image", "images", "c", "programs", "views"):
        os.mkdir(f"{root}{HOME}/{name}")
    bind(f"{base}/skeleton", f"{root}{HOME}/image", readonly=True)
    for path in config["programs"]:
        os.makedirs(f"{root}{HOME}/programs{path}")
        mount("image", f"{root}{HOME}/programs{path}", "overlay", MS_RDONLY, f"lowerdir={base}/mask{path}:{path}")
    bind(config["images"], f"{root}{HOME}/images", readonly=True)
    bind(config["kubelet"], f"{root}/var/lib/kubelet", readonly=False)
    for path in config["binds"]:
        bind(path, root + path, readonly=True)
    for path in config["shared"]:
        bind(path, root + path, readonly=False)
    make_dev(root + "/dev")
    mount("proc", root + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", root + "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    make_cgroup_mounts(root + "/sys/fs/cgroup", config["controllers"])
    make_kernel_files_readonly(root)
    for path, text in config["files"].items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(root + path)  # a symbolic link would lead out
        write(root + path, text)
    os.chdir(root)
    call("pivot_root", b".", b".")
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")
    for path in ("/run", "/run/lock", "/tmp", "/run/runc", NAMESPACES, "/opt/cni/bin"):
        os.makedirs(path, exist_ok=True)
    mount("", "/", "", MS_REC | MS_SHARED)  # as a machine's: what is mounted later is seen by pods that ask for it


def make_dev(dev: str) -> None:
    """Make the node's own /dev, without the machine's disks."""
    os.makedirs(dev, exist_ok=True)
    mount("dev", dev, "tmpfs", MS_NOSUID, "mode=0755,size=1m")
    for name, major, minor in (
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
        ("net/tun", 10, 200),
        ("fuse", 10, 229),
    ):
        os.makedirs(os.path.dirname(f"{dev}/{name}"), exist_ok=True)
        os.mknod(f"{dev}/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
        os.chmod(f"{dev}/{name}", 0o666)
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{dev}/{name}")
    mount("devpts", dev + "/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    mount("shm", dev + "/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=64m")
    mount("mqueue", dev + "/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name, target in (
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        os.symlink(target, f"{dev}/{name}")


def make_cgroup_mounts(where: str, controllers: dict[str, str]) -> None:
    """Mount the node's part of each hierarchy where programs look for it; "" is the unified hierarchy (version 2)."""
    if "" in controllers:
        mount("cgroup2", where, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        return
    mount("cgroup", where, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755")
    for name in controllers:
        target = f"{where}/{name}"
        os.mkdir(target)
        mount("cgroup", target, "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, name)


def become_node(config: dict[str, Any]) -> None:
    """Fork, and return only in the child, as PID 1 of the node; the outer process waits for it, and each dies with its
    parent.
    """
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for directory in config["controllers"].values():
        os.makedirs(directory, exist_ok=True)
        write(f"{directory}/cgroup.procs", "0")
    call("unshare", CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setsid()
    socket.sethostname(config["name"])
    make_root(config)
    drop_capabilities()
    if "" in config["controllers"]:  # version 2: a cgroup with children holds no process of its own
        os.mkdir("/sys/fs/cgroup/init")
        write("/sys/fs/cgroup/init/cgroup.procs", "0")


def make_kernel_files_readonly(root: str) -> None:
    """Make /proc and /sys read-only: root's writes there would change the machine. A container has its own /proc; a pod
    that mounted the node's could write the machine's core_pattern.
    """
    mount("", root + "/sys", "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name in ("sys", "sysrq-trigger", "irq", "bus", "fs"):
        if os.path.exists(path := f"{root}/proc/{name}"):
            mount(path, path, "", MS_BIND | MS_REC)
            mount("", path, "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name in ("kcore", "keys", "kallsyms"):
        if os.path.exists(path := f"{root}/proc/{name}"):
            mount(root + "/dev/null", path, "", MS_BIND)


def drop_capabilities() -> None:
    """Drop the capabilities that act on the machine and not on the node, for all that is started here."""
    for number in FORBIDDEN:
        with contextlib.suppress(OSError):  # a kernel that has fewer
            call("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)
    header = struct.pack("Ii", LINUX_CAPABILITY_VERSION_3, 0)
    held = ctypes.create_string_buffer(24)
    call("capget", header, held)
    words = list(struct.unpack("6I", held.raw))
    for number in set(FORBIDDEN) - {MKNOD}:  # overlayfs makes whiteouts with the mounter's, on kernels before 5.8
        for which in range(3):
            words[3 * (number // 32) + which] &= ~(1 << number % 32) & 0xFFFFFFFF
    call("capset", header, struct.pack("6I", *words))


def leave_node() -> None:
    """Give up everything in this process, which pods may inspect: all capabilities, for good, and all files of the node
    except programs.
    """
    call("unshare", CLONE_NEWNS)
    mount("", "/", "", MS_REC | MS_PRIVATE)
    mount("none", "/mnt", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755")
    for name in ("bin", "lib", "lib32", "lib64", "libx32", "usr"):
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"/mnt/{name}")
        elif os.path.isdir(f"/{name}"):
            bind(f"/{name}", f"/mnt/{name}", readonly=True)
    os.chdir("/mnt")
    call("pivot_root", b".", b".")
    call("umount2", b".", MNT_DETACH)
    mount("", "/", "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for number in range(64):
        with contextlib.suppress(OSError):  # a kernel that has fewer
            call("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)
    nothing = struct.pack("6I", *[0] * 6)
    call("capset", struct.pack("Ii", LINUX_CAPABILITY_VERSION_3, 0), nothing)


# --- being one -------------------------------------------------------------------------------------------------------


class Readable(Protocol):
    """A handler of a file descriptor of the loop."""

    def on_ready(self) -> None: ...


def open_log(path: str) -> int:
    """Open a log to append to. Whatever else a pod put there is removed: a FIFO would block the node for ever."""
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        fd = os.open(path, flags, 0o640)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
    os.unlink(path)
    return os.open(path, flags | os.O_EXCL, 0o640)


class Log:
    """A container's output in CRI's format (`<time> stdout F <line>`), rotated; both of its streams write here."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.fd = open_log(path)
        self.size = os.fstat(self.fd).st_size
        self.users = 1  # the container

    def write(self, stream: bytes, lines: list[tuple[bytes, bytes]]) -> None:
        now = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)).encode() + b".%09dZ " % (now % 10**9)
        data = b"".join(stamp + stream + tag + line + b"\n" for tag, line in lines)
        with contextlib.suppress(OSError):  # a full disk costs log lines, not the node
            os.write(self.fd, data)
        self.size += len(data)
        if self.size > LOG_BYTES:
            self.rotate()

    def rotate(self) -> None:
        """Begin a new file. A pod that took the old one's name, or its place, costs log lines, not the node."""
        with contextlib.suppress(OSError):
            os.rename(self.path, self.path + ".1")
            fresh = open_log(self.path)
            os.close(self.fd)
            self.fd = fresh
        self.size = 0

    def release(self) -> None:
        self.users -= 1
        if not self.users:
            os.close(self.fd)


class Tap:
    """A copy of a stream for one who is attached to it. It ends with him, or with the container."""

    def __init__(self, stream: Stream, fd: int) -> None:
        self.stream, self.fd = stream, fd
        self.rest = b""
        self.last = False  # nothing more comes
        os.set_blocking(fd, False)
        stream.taps.append(self)
        stream.init.watch(fd, self, 0)  # that he has gone is told unasked

    def take(self, data: bytes) -> None:
        self.rest += data
        self.on_ready()

    def finish(self) -> None:
        """End once all was written."""
        self.last = True
        if not self.rest:
            self.close()

    def on_ready(self) -> None:
        gone = not self.rest
        with contextlib.suppress(BlockingIOError):
            try:
                self.rest = self.rest[os.write(self.fd, self.rest) :]
            except BrokenPipeError:
                gone = True
        if gone or (self.last and not self.rest):
            self.close()
            return
        self.stream.init.epoll.modify(self.fd, select.EPOLLOUT if self.rest else 0)
        self.stream.hold()

    def close(self) -> None:
        self.stream.init.unwatch(self.fd)
        os.close(self.fd)
        self.stream.taps.remove(self)
        self.stream.hold()


class Stream:
    """The reading end of a container's stdout or stderr, or of its terminal."""

    def __init__(self, init: Init, fd: int, name: bytes, log: Log) -> None:
        self.init, self.fd, self.name, self.log = init, fd, name, log
        self.rest = b""
        self.open = True
        self.taps: list[Tap] = []
        log.users += 1
        os.set_blocking(fd, False)
        init.watch(fd, self)

    def hold(self) -> None:
        """Read no further while one who is attached lags behind: the container's writes wait then."""
        if self.open:
            behind = any(len(tap.rest) > TAPPED for tap in self.taps)
            self.init.epoll.modify(self.fd, 0 if behind else select.EPOLLIN)

    def on_ready(self) -> None:
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return
        except OSError:  # of a terminal that nobody holds any more
            data = b""
        if not data:
            self.close()
            return
        for tap in tuple(self.taps):
            tap.take(data)
        *whole, self.rest = (self.rest + data).split(b"\n")
        lines: list[tuple[bytes, bytes]] = []
        for line in whole:
            while len(line) > LINE:
                lines.append((b" P ", line[:LINE]))
                line = line[LINE:]
            lines.append((b" F ", line))
        while len(self.rest) > LINE:
            lines.append((b" P ", self.rest[:LINE]))
            self.rest = self.rest[LINE:]
        if lines:
            self.log.write(self.name, lines)

    def drain(self) -> None:
        """Read what the pipe holds now, bounded: a surviving process may go on writing."""
        for _ in range(64):
            if not self.open or not select.select([self.fd], [], [], 0)[0]:
                return
            self.on_ready()

    def close(self) -> None:
        if self.open:
            self.open = False
            if self.rest:
                self.log.write(self.name, [(b" P ", self.rest)])
            self.init.unwatch(self.fd)
            os.close(self.fd)
            self.log.release()
            self.finish()

    def finish(self) -> None:
        """Nothing more is for those who are attached."""
        for tap in tuple(self.taps):
            tap.finish()


class Container:
    """A container that is being started, running, or dead and not yet forgotten."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.id: str = request["container"]
        self.cgroup: str = request["cgroup"]
        self.directory = f"{HOME}/c/{self.id}"
        self.bundle: str = request["bundle"]
        self.request_id: int = request["id"]
        self.pid = 0
        self.starter = 0
        self.log: Log | None = None
        self.streams: list[Stream] = []
        self.stdin = -1  # the writing end of its input, or its terminal
        self.console: socket.socket | None = None  # on which runc sends the terminal
        self.console_path = f"{self.directory}/console"
        self.mounts: list[str] = []  # of its own, beside its root

    def close_stdin(self) -> None:
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1


class Init:
    """PID 1: serves requests, reaps, copies output to logs."""

    def __init__(self, control: socket.socket, controllers: list[str]) -> None:
        self.control = control
        self.controllers = [f"/sys/fs/cgroup/{name}" if name else "/sys/fs/cgroup" for name in controllers]
        self.epoll = select.epoll()
        self.readers: dict[int, Readable] = {}
        self.containers: dict[str, Container] = {}
        self.starters: dict[int, Container] = {}
        self.mains: dict[int, Container] = {}
        self.jobs: dict[int, int] = {}  # pid -> request id, of processes started by `spawn`
        self.pauses: dict[str, int] = {}
        self.orphans: dict[
            int, tuple[int, int]
        ] = {}  # exits of processes that nothing is known of yet: pid -> (status, ns)
        receive, send = socket.socketpair()
        receive.setblocking(False)
        send.setblocking(False)
        self.wakeup, self._wakeup_writer = receive, send
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(send.fileno())
        self.epoll.register(control.fileno(), select.EPOLLIN)
        self.epoll.register(receive.fileno(), select.EPOLLIN)

    def watch(self, fd: int, reader: Readable, events: int = select.EPOLLIN) -> None:
        self.readers[fd] = reader
        self.epoll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        self.epoll.unregister(fd)
        del self.readers[fd]

    def send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        socket.send_fds(self.control, [json.dumps(message).encode()], fds or [])

    def run(self) -> None:
        while True:
            for fd, _ in self.epoll.poll():
                if fd == self.control.fileno():
                    if not self.on_request():
                        return
                elif fd == self.wakeup.fileno():
                    with contextlib.suppress(BlockingIOError):
                        self.wakeup.recv(4096)
                    self.reap()
                elif fd in self.readers:
                    self.readers[fd].on_ready()

    def on_request(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self.control, 1 << 18, 8)
        if not data:
            return False
        request = json.loads(data)
        try:
            reply = getattr(self, "do_" + request["do"])(request, fds)
        except Exception as error:  # whatever a pod's words provoke is its own trouble: the node goes on
            reply = {"error": str(error)}
        if reply is not None:
            passed = reply.pop("fds", [])
            self.send({"id": request["id"], **reply}, passed)
            for fd in passed:
                os.close(fd)
        for fd in fds:
            os.close(fd)
        return True

    # requests, each named after what it does

    def do_sandbox(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        """Start a pause process in new network (unless the node's is used), IPC and UTS namespaces; its PID and network
        namespace.
        """
        flags = CLONE_NEWIPC | CLONE_NEWUTS | (0 if request["host_network"] else CLONE_NEWNET)
        shared = request[
            "share_processes"
        ]  # then the pause process is PID 1 of all the pod's containers, and reaps for them
        ready, told = os.pipe()
        child = os.fork()
        if not child:
            try:
                for directory in self.controllers:
                    os.makedirs(directory + request["cgroup"], exist_ok=True)
                    write(f"{directory}{request['cgroup']}/cgroup.procs", "0")
                call("unshare", flags)
                if not request["host_network"]:
                    socket.sethostname(request["hostname"])
                os.setsid()
                if shared:
                    call("unshare", CLONE_NEWPID)
                    if inner := os.fork():
                        os.write(told, str(inner).encode())
                        os._exit(0)
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel; kept over execv
                else:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.write(told, b"1")
                os.closerange(0, 3)
                os.open("/dev/null", os.O_RDWR)
                os.dup(0)
                os.dup(0)
                leave_node()
                os.execv("/usr/bin/sleep", ["/pause", "infinity"])
            except OSError as error:
                os.write(told, str(error).encode())
            os._exit(1)
        os.close(told)
        text = os.read(ready, 1000)
        os.close(ready)
        if shared and text.isdigit():
            os.waitpid(child, 0)
            child = int(text)  # now a child of this process, which adopts orphans
        elif text != b"1":
            return {"error": text.decode() or "the sandbox's process ended while starting"}
        self.pauses[request["sandbox"]] = child
        if not request["host_network"]:
            name_namespace(request["sandbox"], child)
        return {"pid": child, "fds": [os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)]}

    def do_drop_sandbox(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        pid = self.pauses.pop(request["sandbox"], 0)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        forget_namespace(request["sandbox"])
        self.drop_cgroup(request["cgroup"])
        return {}

    def do_network_configurations(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        """Read the node's network configurations: names and texts of a directory's files."""
        found: list[dict[str, str]] = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for name in sorted(os.listdir(request["path"])):
                if name.endswith((".conf", ".conflist", ".json")) and len(found) < MOST_CONFIGURATIONS:
                    with contextlib.suppress(OSError, UnicodeDecodeError):
                        found.append({"name": name, "text": read_plain(f"{request['path']}/{name}")})
        return {"files": found}

    def do_view(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        """Bind the node's whole root once more, as the root of a program, if that program exists."""
        there = os.path.isfile(request["program"]) and os.access(request["program"], os.X_OK)
        if there:
            os.makedirs(request["path"])
            mount("/", request["path"], "", MS_BIND | MS_REC)
            mount("", request["path"], "", MS_PRIVATE | MS_REC)  # or its end would be the end of /proc
        return {"there": there}

    def do_drop_view(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError):
            if os.path.ismount(request["path"]):
                call("umount2", request["path"].encode(), MNT_DETACH)
            os.rmdir(request["path"])
        return {}

    def do_drop_cgroup(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        self.drop_cgroup(request["cgroup"])
        return {}

    def do_tmpfs(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        os.makedirs(request["path"], exist_ok=True)
        mount("tmpfs", request["path"], "tmpfs", MS_NOSUID | MS_NODEV, request["options"])
        return {}

    def do_unmount(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        call("umount2", request["path"].encode(), MNT_DETACH)
        return {}

    def do_host_path(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        """Check or make a hostPath volume by its `type`; the problem, "" for none."""
        path, kind = request["path"], request["type"]
        if kind == "DirectoryOrCreate" or (kind == "" and not os.path.lexists(path)):
            os.makedirs(path, mode=0o755, exist_ok=True)
        elif kind == "FileOrCreate" and not os.path.exists(path):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
        checks = {
            "Directory": stat.S_ISDIR,
            "DirectoryOrCreate": stat.S_ISDIR,
            "File": stat.S_ISREG,
            "FileOrCreate": stat.S_ISREG,
            "Socket": stat.S_ISSOCK,
            "CharDevice": stat.S_ISCHR,
            "BlockDevice": stat.S_ISBLK,
        }
        if kind in checks and not (os.path.exists(path) and checks[kind](os.stat(path).st_mode)):
            return {"problem": f"hostPath type check failed: {path} is not a {kind}"}
        return {"problem": ""}

    def do_run(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any] | None:
        """Mount the container's root and start it with runc; reply when runc has ended."""
        container = Container(request)
        for name in ("up", "work", "root", "parts"):
            os.makedirs(f"{container.directory}/{name}")
        try:
            for part in request["parts"]:
                container.mounts.append(show_part(part, f"{container.directory}/parts/{part['index']}"))
        except OSError as error:
            self.forget(container)
            return {"error": f"failed to prepare subPath {part['part']!r} for volumeMount: {error.strerror}"}
        try:
            lay_image(request["lower"], container.directory)
            container.log = log = Log(request["log"])
        except OSError:
            self.forget(container)
            raise
        if request["tty"]:
            ends = self.make_console(container)
        else:
            ends = self.make_pipes(container, log, stdin=request["stdin"])
        bundle = container.bundle
        arguments = [
            "runc",
            "--root",
            "/run/runc",
            "--log",
            f"{bundle}/runc.log",
            "--log-format",
            "json",
            "run",
            "--detach",
            "--pid-file",
            f"{bundle}/pid",
            *(["--console-socket", container.console_path] if container.console else []),
            "--bundle",
            bundle,
            container.id,
        ]
        container.starter = self.spawn(arguments, ends)
        for fd in ends:
            os.close(fd)
        self.containers[container.id] = container
        self.starters[container.starter] = container
        return None

    def make_pipes(self, container: Container, log: Log, *, stdin: bool) -> list[int]:
        """Make the container's pipes; its ends of them."""
        if stdin:
            reading, container.stdin = os.pipe()
        else:
            reading = os.open("/dev/null", os.O_RDONLY)
        ends = [reading]
        for name in (b"stdout", b"stderr"):
            reading, writing = os.pipe()
            container.streams.append(Stream(self, reading, name, log))
            ends.append(writing)
        return ends

    def make_console(self, container: Container) -> list[int]:
        """Listen for the terminal that runc makes in the container; what runc itself reads and writes."""
        container.console = socket.socket(socket.AF_UNIX)
        container.console.bind(container.console_path)
        container.console.listen(1)
        container.console.settimeout(CONSOLE_SECONDS)
        return [os.open("/dev/null", os.O_RDWR) for _ in range(3)]

    def take_terminal(self, container: Container) -> None:
        """Take the terminal that runc has sent. Raises OSError."""
        assert container.console is not None
        assert container.log is not None
        with container.console, container.console.accept()[0] as sender:
            sender.settimeout(CONSOLE_SECONDS)
            _, fds, _, _ = socket.recv_fds(sender, 4096, 1)
        container.console = None
        if not fds:
            raise OSError(errno.EPROTO, "runc sent no terminal")
        os.set_inheritable(fds[0], False)
        container.stdin = os.dup(fds[0])
        container.streams.append(Stream(self, fds[0], b"stdout", container.log))

    def do_attach(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Copy what a running container writes from now on to the descriptors that came along, of stdout and stderr (a
        terminal has one); its stdin, or its terminal, if there is one.
        """
        container = self.containers.get(request["container"])
        if container is None or not container.pid:
            return {"error": "the container does not run"}
        for stream, fd in zip(container.streams, fds, strict=False):
            tap = Tap(stream, os.dup(fd))
            if not stream.open:
                tap.finish()
        return {"fds": [os.dup(container.stdin)] if container.stdin >= 0 else []}

    def do_close_stdin(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        container = self.containers.get(request["container"])
        if container is not None:
            container.close_stdin()
        return {}

    def do_spawn(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Start a program of the node with the three descriptors that came along; its end is an event `done`."""
        pid = self.spawn(request["arguments"], fds[:3], session=request.get("session", False))
        self.jobs[pid] = request["id"]
        return {"pid": pid}

    def do_kill(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        container = self.containers.get(request.get("container", ""))
        pid = container.pid if container else request.get("pid", 0)
        if "pid_file" in request:
            with open(request["pid_file"]) as file:
                pid = int(file.read())
        if not pid:
            return {"error": "no such process"}
        os.kill(pid, request["signal"])
        return {}

    def do_forget(self, request: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        """Remove the remains of a dead container: surviving processes, its cgroup, its root, its output pipes."""
        container = self.containers.pop(request["container"], None)
        if container:
            self.forget(container)
        return {}

    def forget(self, container: Container) -> None:
        self.drop_cgroup(container.cgroup)
        for stream in container.streams:
            stream.drain()
            stream.close()
        container.close_stdin()
        if container.log is not None:
            container.log.release()
        if container.console is not None:
            container.console.close()
        for point in (f"{container.directory}/root", *container.mounts):
            with contextlib.suppress(OSError):
                call("umount2", point.encode(), MNT_DETACH)
        shutil.rmtree(container.directory, ignore_errors=True)
        shutil.rmtree(f"/run/runc/{container.id}", ignore_errors=True)

    def spawn(self, arguments: list[str], stdio: list[int], *, session: bool = False) -> int:
        program = shutil.which(arguments[0], path=ENVIRONMENT["PATH"])
        if program is None:
            raise FileNotFoundError(errno.ENOENT, f"{arguments[0]}: not found on the node")
        lifted = [os.dup(fd) if fd < 3 else fd for fd in stdio]
        actions = [(os.POSIX_SPAWN_DUP2, fd, index) for index, fd in enumerate(lifted)]
        pid = os.posix_spawn(
            program,
            arguments,
            ENVIRONMENT,
            file_actions=actions,
            setsid=session,
            setsigdef=[signal.SIGPIPE, signal.SIGCHLD],
            setsigmask=[],
        )
        for fd, original in zip(lifted, stdio, strict=True):
            if fd != original:
                os.close(fd)
        return pid

    def drop_cgroup(self, path: str) -> None:
        for directory in self.controllers:
            where = directory + path
            for _ in range(50):  # a killed process leaves its cgroup within a few milliseconds
                try:
                    os.rmdir(where)
                except FileNotFoundError:
                    break
                except OSError as error:
                    if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                        break
                    with contextlib.suppress(OSError), open(f"{where}/cgroup.procs") as file:
                        for pid in file.read().split():
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(int(pid), signal.SIGKILL)
                    with contextlib.suppress(OSError):
                        for entry in os.scandir(where):
                            if entry.is_dir():
                                self.drop_cgroup(f"{path}/{entry.name}")
                    self.reap()
                    select.select([], [], [], 0.002)
                else:
                    break

    # ends of processes

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            at = time.time_ns()
            if (starter := self.starters.pop(pid, None)) is not None:
                self.on_started(starter, os.waitstatus_to_exitcode(status))
            elif (container := self.mains.pop(pid, None)) is not None:
                self.on_exit(container, status, at)
            elif (sandbox := next((s for s, pause in self.pauses.items() if pause == pid), None)) is not None:
                del self.pauses[sandbox]
                self.send({"event": "sandbox", "sandbox": sandbox})
            elif pid in self.jobs:
                self.send({"event": "done", "job": self.jobs.pop(pid), "code": exit_code(status)})
            else:
                self.orphans[pid] = (status, at)
                while len(self.orphans) > 512:
                    del self.orphans[next(iter(self.orphans))]

    def on_started(self, container: Container, code: int) -> None:
        if code:
            text = ""
            with contextlib.suppress(OSError), open(f"{container.bundle}/runc.log") as file:
                lines = [json.loads(line) for line in file if line.startswith("{")]
                text = next((line["msg"] for line in reversed(lines) if line.get("level") == "error"), "")
            self.containers.pop(container.id, None)
            self.forget(container)
            self.send({"id": container.request_id, "error": text or f"runc ended with code {code} and no message"})
            return
        with open(f"{container.bundle}/pid") as file:
            container.pid = int(file.read())
        if container.console is not None:
            with contextlib.suppress(OSError):  # without it the container runs unheard
                self.take_terminal(container)
        self.send({"id": container.request_id, "pid": container.pid, "at": time.time_ns()})
        if container.pid in self.orphans:
            self.on_exit(container, *self.orphans.pop(container.pid))
        else:
            self.mains[container.pid] = container

    def on_exit(self, container: Container, status: int, at: int) -> None:
        for stream in container.streams:
            stream.drain()
            stream.finish()
        container.pid = 0
        self.send(
            {
                "event": "exit",
                "container": container.id,
                "code": exit_code(status),
                "at": at,
                "oom": self.saw_oom(container),
            }
        )

    def saw_oom(self, container: Container) -> bool:
        for directory in self.controllers:
            for name in ("memory.oom_control", "memory.events"):
                with contextlib.suppress(OSError), open(f"{directory}{container.cgroup}/{name}") as file:
                    for line in file:
                        key, _, value = line.partition(" ")
                        if key == "oom_kill" and int(value):
                            return True
        return False


def name_namespace(sandbox: str, pid: int) -> None:
    """Mount a pod's network namespace at the path where network plugins and node pods look for it."""
    path = f"{NAMESPACES}/cni-{sandbox}"
    forget_namespace(sandbox)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o444))
    mount(f"/proc/{pid}/ns/net", path, "", MS_BIND)


def forget_namespace(sandbox: str) -> None:
    path = f"{NAMESPACES}/cni-{sandbox}"
    with contextlib.suppress(OSError):  # until nothing is mounted there
        while True:
            call("umount2", path.encode(), MNT_DETACH)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def read_plain(path: str) -> str:
    """Read a file that pods can write, without blocking on a device or pipe, and no more than a datagram holds."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return file.read(CONFIGURATION_BYTES).decode()


def exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    config = json.loads(control.recv(1 << 18))
    try:
        become_node(config)
    except OSError as error:
        control.send(json.dumps({"event": "failed", "message": str(error)}).encode())
        return
    init = Init(control, list(config["controllers"]))
    init.send({"event": "ready"}, [])
    init.run()


if __name__ == "__main__":
    main()
