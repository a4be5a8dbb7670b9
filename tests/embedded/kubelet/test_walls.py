"""What a pod on a real node tries, and does not reach: the machine's disks, its kernel's settings, its files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chaos.embedded.kubelet import devices
from chaos.embedded.kubelet.node_machine import HOME
from chaos.embedded.kubelet.spec import FORBIDDEN
from chaos.embedded.resources import CONFIG_MAP, SECRET
from tests.embedded.kubelet.nodes import World, in_world, pod, shell

pytestmark = pytest.mark.privileged


def disks() -> list[str]:
    """`b MAJOR MINOR` of the machine's block devices."""
    rows = Path("/proc/partitions").read_text().split("\n")[2:]
    return [f"b {words[0]} {words[1]}" for row in rows if (words := row.split())]


PROGRAM = r"""
import ctypes, os, stat, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
held = []
def attempt(name, work):
    try:
        result = work()
    except OSError as error:
        print(name, "refused:", error.strerror)
    else:
        print(name, "DONE", result)
def call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def opened(kind, major, minor):
    path = f"/tmp/dev-{kind}-{major}-{minor}"
    os.mknod(path, (stat.S_IFBLK if kind == "b" else stat.S_IFCHR) | 0o600, os.makedev(major, minor))
    return os.read(os.open(path, os.O_RDONLY), 16)
def written(path, text):
    with open(path, "w") as file:
        file.write(text)
for path in ("/sys/fs/cgroup/devices/devices.allow", "/host/sys/fs/cgroup/devices/devices.allow"):
    if os.path.exists(path):
        attempt(path, lambda: written(path, "a"))
for row in sys.argv[1:]:
    kind, major, minor = row.split()
    attempt(f"disk {row}", lambda: opened(kind, int(major), int(minor)))
for name, minor in (("mem", 1), ("port", 4), ("kmsg", 11)):
    attempt(f"/dev/{name}", lambda: opened("c", 1, minor))
attempt("mount proc", lambda: call("mount", b"proc", b"/mnt", b"proc", 0, None))
attempt("mount sysfs", lambda: call("mount", b"sysfs", b"/mnt", b"sysfs", 0, None))
attempt("remount /proc/sys/kernel", lambda: call("mount", None, b"/proc/sys/kernel", None, 32 | 4096, None))
attempt("umount /proc/sys/kernel", lambda: call("umount2", b"/proc/sys/kernel", 2))
attempt("mount a cgroup hierarchy", lambda: call("mount", b"x", b"/mnt", b"cgroup", 0, b"none,name=x"))
attempt("open by handle", lambda: call("syscall", 304 if os.uname().machine == "x86_64" else 265, -100,
        struct.pack("IiQ", 8, 1, 2), 0))
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
             "/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run",
             "/host/proc/sys/kernel/core_pattern", "/host/proc/sysrq-trigger", "/host/sys/kernel/mm/ksm/run"):
    if os.path.exists(path):
        attempt(path, lambda: written(path, "0" if "sysrq" in path else open(path).read()))
status = {row.split(":")[0]: row.split()[1] for row in open("/proc/self/status") if ":" in row and len(row.split()) > 1}
print("capabilities", int(status["CapBnd"], 16) | int(status["CapPrm"], 16))
"""


@pytest.mark.parametrize("sort", ["plain", "sys-admin", "privileged", "host"])
def test_no_pod_reaches_a_disk_or_the_kernels_settings(sort: str) -> None:
    async def body(world: World) -> None:
        context = {
            "plain": {},
            "sys-admin": {"capabilities": {"add": ["ALL"]}},
            "privileged": {"privileged": True},
            "host": {"privileged": True},
        }[sort]
        more: dict[str, Any] = {"hostPID": True, "hostNetwork": True, "hostIPC": True} if sort == "host" else {}
        volumes = [{"name": "proc", "hostPath": {"path": "/proc"}}, {"name": "sys", "hostPath": {"path": "/sys"}}]
        mounts = [{"name": name, "mountPath": f"/host/{name}"} for name in ("proc", "sys")]
        world.create(
            pod(
                "p",
                shell("app", "exec sleep 600", securityContext=context, volumeMounts=mounts),
                volumes=volumes,
                **more,
            )
        )
        await world.ready("p")
        code, said = await world.run("p", "app", "python3", "-c", PROGRAM, *disks())
        assert code == 0, said
        assert "DONE" not in said, said
        assert said.count("refused") >= 12 + len(disks())
        bits = int(said.split("capabilities ")[1])
        from chaos.embedded.kubelet.spec import ALL_CAPABILITIES

        assert not {name for number, name in enumerate(ALL_CAPABILITIES) if bits >> number & 1} & FORBIDDEN

    in_world(body)


INTRUDER = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
top = sys.argv[1]
numbers = {"x86_64": {"vm_writev": 311}, "aarch64": {"vm_writev": 271}}[os.uname().machine]
def call(name, *arguments):
    if (result := getattr(libc, name)(*arguments)) < 0:
        raise OSError(ctypes.get_errno(), name)
    return result
def held(pid):
    return next(int(row.split()[1], 16) for row in open(f"{top}/{pid}/status") if row.startswith("CapPrm"))
def written(pid):
    with open(f"{top}/{pid}/mem", "r+b", buffering=0):
        return "its memory"
def entered(space, flag):
    if not (child := os.fork()):
        try:
            call("setns", os.open(space, os.O_RDONLY), flag)
            os._exit(0)
        except OSError:
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise PermissionError("setns")
    return space
def attached(pid):
    call("ptrace", 0x4206, ctypes.c_long(pid), None, None)  # SEIZE
    call("ptrace", 17, ctypes.c_long(pid), None, None)
    return "attached"
def stolen(pid):
    handle = os.pidfd_open(pid)
    return call("syscall", 438, handle, 0, 0)  # pidfd_getfd
def by_handle(pid):
    call("setns", os.pidfd_open(pid), 0x20000)
    return "mount namespace"
def poked(pid):
    class Part(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
    text = ctypes.create_string_buffer(b"x")
    here, there = Part(ctypes.addressof(text), 1), Part(0x400000, 1)
    call("syscall", numbers["vm_writev"], pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
ways = {
    "mem": written,
    "root": lambda pid: os.listdir(f"{top}/{pid}/root"),
    "cwd": lambda pid: os.listdir(f"{top}/{pid}/cwd/"),
    "exe": lambda pid: os.open(f"{top}/{pid}/exe", os.O_RDONLY),
    "fd": lambda pid: [os.open(f"{top}/{pid}/fd/{one}", os.O_RDONLY) for one in os.listdir(f"{top}/{pid}/fd")],
    "map_files": lambda pid: [os.readlink(one.path) for one in os.scandir(f"{top}/{pid}/map_files")],
    "task": lambda pid: open(f"{top}/{pid}/task/{pid}/mem", "r+b", buffering=0),
    "ns/mnt": lambda pid: entered(f"{top}/{pid}/ns/mnt", 0x20000),
    "ns/pid": lambda pid: entered(f"{top}/{pid}/ns/pid", 0x20000000),
}
if top == "/proc":
    ways |= {"ptrace": attached, "pidfd": stolen, "setns": by_handle, "process_vm_writev": poked}
for pid in sorted(int(name) for name in os.listdir(top) if name.isdigit()):
    if not held(pid) >> 19 & 1:  # SYS_PTRACE
        continue
    for name, work in ways.items():
        try:
            work(pid)
        except OSError as error:
            print(pid, name, "refused:", error.strerror or error)
        else:
            print(pid, name, "DONE")
for pid in (name for name in os.listdir(top) if name.isdigit()):
    try:
        if open(f"{top}/{pid}/cmdline").read().startswith("/pause"):
            names = sorted(os.listdir(f"{top}/{pid}/root"))
            print("pause", held(pid), names, os.access(f"{top}/{pid}/root/usr", os.W_OK))
    except FileNotFoundError:
        pass
try:
    print("environment", open(f"{top}/1/environ").read())
except OSError:
    print("environment")
"""


@pytest.mark.parametrize(
    ("context", "more", "top"),
    [
        ({"privileged": True}, {"hostPID": True}, "/proc"),
        ({"privileged": True}, {"hostPID": True, "hostNetwork": True, "hostIPC": True}, "/proc"),
        ({"capabilities": {"add": ["ALL"]}}, {"hostPID": True}, "/proc"),
        ({"capabilities": {"add": ["SYS_PTRACE", "SYS_ADMIN"]}}, {"hostPID": True}, "/proc"),
        ({"privileged": True}, {}, "/host/proc"),
        ({"capabilities": {"add": ["SYS_PTRACE"]}}, {}, "/host/proc"),
    ],
)
def test_no_pod_reaches_into_the_nodes_first_process(context: dict[str, Any], more: dict[str, Any], top: str) -> None:
    """Nor into any other that nothing filters: whoever does makes it mount a fresh /proc, and is the machine's root."""

    async def body(world: World) -> None:
        volumes = [{"name": "proc", "hostPath": {"path": "/proc"}}]
        mounts = [{"name": "proc", "mountPath": "/host/proc"}]
        app = shell("app", "exec sleep 600", securityContext=context, volumeMounts=mounts)
        world.create(pod("p", app, volumes=volumes, **more))
        await world.ready("p")
        code, said = await world.run("p", "app", "python3", "-c", INTRUDER, top)
        assert code == 0, said
        lines = said.splitlines()
        assert {line.split()[1] for line in lines if line.startswith("1 ")} >= {"mem", "root", "ns/mnt"}
        assert not [line for line in lines if line.endswith("DONE")], said
        assert lines[-1].strip() == "environment"
        programs = [name for name in ("bin", "lib", "lib32", "lib64", "libx32", "usr") if os.path.lexists(f"/{name}")]
        pauses = [line for line in lines if line.startswith("pause")]
        assert pauses
        for line in pauses:
            assert line == f"pause 0 {programs} False"

    in_world(body)


OWNER = r"""
import json, os, signal, sys
name, uid = sys.argv[1:]
there = f"/node/var/lib/kubelet/pods/{uid}"
def files(top):
    return [f"{where}/{one}" for where, _, names in os.walk(top) for one in names]
def holds(top, text):
    for path in files(top):
        try:
            with open(path, "rb") as file:
                if text in file.read(1 << 16):
                    return True
        except OSError:
            continue
    return False
def written(path, text=b"planted"):
    try:
        with open(path, "wb") as file:
            file.write(text)
    except OSError as error:
        return error.strerror
    return "written"
reached = {
    "its secret": holds(there, b"very-secret"),
    "its token": holds(there, f"token of {name}".encode()),
    "its log": holds("/node/var", b"said by the victim"),
    "its scratch": [written(path) for path in files(there) if path.endswith("/scratch-file")],
    "its container's files": any(path.endswith("/in-the-root") for path in files("/node/var/lib/sharedfate")),
    "a program of the node": written("/node/usr/bin/sharedfate-planted"),
    "the node's settings": written("/node/etc/sharedfate-planted"),
    "Python": written("/node" + os.__file__),
}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if b"sleep\x00661" in open(f"/proc/{pid}/cmdline", "rb").read():
            reached["its network"] = os.path.exists(f"/proc/{pid}/ns/net")
            os.kill(int(pid), signal.SIGKILL)
            reached["its process"] = "ended"
    except OSError:
        pass
print(json.dumps(reached))
"""


def test_what_a_privileged_pod_with_the_nodes_root_reaches_is_its_node_and_no_more() -> None:
    """As docs/security.md says: all of its node's other pods; what it writes to the node stays in the node."""

    async def body(world: World) -> None:
        world.create({"metadata": {"name": "s", "namespace": "default"}, "data": {"x": "dmVyeS1zZWNyZXQ="}}, SECRET)
        script = "echo said by the victim; touch /in-the-root /scratch/scratch-file; exec sleep 661"
        victim = shell(
            "app",
            script,
            volumeMounts=[{"name": name, "mountPath": f"/{name}"} for name in ("secret", "scratch", "token")],
        )
        volumes = [
            {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        ]
        world.create(pod("victim", victim, volumes=volumes))
        owner = shell(
            "app",
            "exec sleep 600",
            securityContext={"privileged": True},
            volumeMounts=[{"name": "root", "mountPath": "/node"}],
        )
        world.create(pod("p", owner, volumes=[{"name": "root", "hostPath": {"path": "/"}}], hostPID=True))
        await world.ready("victim")
        await world.ready("p")
        await world.says("victim", "app", "said by the victim")
        uid = (world.get("victim") or {})["metadata"]["uid"]
        code, said = await world.run("p", "app", "python3", "-c", OWNER, "victim", uid)
        assert code == 0, said
        reached = json.loads(said)
        # Below /usr it is written in the node alone; elsewhere the installation is mounted, and read-only.
        assert reached.pop("Python") == ("written" if os.__file__.startswith("/usr/") else "Read-only file system")
        assert Path(os.__file__).read_bytes() != b"planted"
        assert reached == {
            "its secret": True,
            "its token": True,
            "its log": True,
            "its scratch": ["written"],
            "its container's files": True,
            "its network": True,
            "its process": "ended",
            "a program of the node": "written",
            "the node's settings": "written",
        }
        await world.until(lambda: world.status("victim", "app").get("restartCount") == 1)
        for path in ("/usr/bin/sharedfate-planted", "/etc/sharedfate-planted"):
            assert not os.path.lexists(path)

    in_world(body)


LISTING = r"""
import json, os
found = []
for top in ("/", "/node/"):
    for name in os.listdir(top) if os.path.isdir(top) else ():
        if name in ("proc", "sys", "dev", "usr", "node", "run", "tmp") or os.path.islink(top + name):
            continue
        for where, directories, names in os.walk(top + name):
            directories[:] = [one for one in directories if f"{where}/{one}" not in SKIPPED]
            found += [f"{where}/{one}" for one in names]
print(json.dumps(found))
"""


# What a plain pod with a hostPath volume puts where the node's own first process or the server will write or read.
# {d}: the victim's directory; the victim writes a line, then ends and is started again.
PLANTS = {
    "a fifo for the next log": "mkfifo {d}/logs/app/1.log",
    "a link for the next log": "ln -s /proc/sysrq-trigger {d}/logs/app/1.log",
    "a dangling link for the next log": "ln -s /nowhere/x {d}/logs/app/1.log",
    "a directory for the next log": "mkdir -p {d}/logs/app/1.log/x",
    "a device for the next log": "cp /etc/hostname {d}/logs/app/1.log; ln -sf /dev/tty {d}/logs/app/1.log",
    "no log any more": "rm -r {d}/logs",
    "a file for the logs": "mv {d}/logs {d}/aside; touch {d}/logs",
    "a directory for the old log": "rm -f {d}/logs/app/0.log.1; mkdir -p {d}/logs/app/0.log.1/x {d}/logs/app/1.log.1/x",
    "a huge log": "truncate -s 8T {d}/logs/app/0.log; truncate -s 8T {d}/logs/app/1.log",
    "fifos for the pod's files": "for f in hosts hostname resolv.conf; do rm -f {d}/$f; mkfifo {d}/$f; done",
    "fifos for the termination messages": "for f in {d}/containers/*/termination-log; do rm $f; mkfifo $f; done",
    "a huge termination message": "for f in {d}/containers/*/termination-log; do truncate -s 8T $f; done",
    "a link for the containers": "mv {d}/containers {d}/aside; ln -s / {d}/containers",
    "a fifo for a volume": "rm -rf {d}/volumes/files; mkfifo {d}/volumes/files",
    "a link for a volume": "rm -rf {d}/volumes/files; ln -s /etc {d}/volumes/files",
    "nothing at all": "rm -rf {d}",
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_node_and_the_server_outlive_whatever_a_pod_plants(plant: str) -> None:
    """The victim may suffer: it is on a node of which another pod owns the directory. Nobody else does."""

    async def body(world: World) -> None:
        world.create({"metadata": {"name": "c", "namespace": "default"}, "data": {"k": "v"}}, CONFIG_MAP)
        ended = "until [ -e /files/k ] && [ -e /shared/end ]; do sleep 0.05; done"
        script = f"yes sixteen-bytes-long | head -c 11000000; {ended}"
        mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("files", "shared")]
        victim = shell("app", script, volumeMounts=mounts, terminationMessagePolicy="FallbackToLogsOnError")
        volumes = [
            {"name": "files", "configMap": {"name": "c"}},
            {"name": "shared", "hostPath": {"path": "/var/lib/kubelet/pods/shared", "type": "DirectoryOrCreate"}},
        ]
        world.create(pod("victim", victim, volumes=volumes))
        hostile = shell("app", "exec sleep 600", volumeMounts=[{"name": "kubelet", "mountPath": "/k"}])
        world.create(pod("p", hostile, volumes=[{"name": "kubelet", "hostPath": {"path": "/var/lib/kubelet"}}]))
        await world.ready("victim")
        await world.ready("p")
        uid = (world.get("victim") or {})["metadata"]["uid"]
        code, said = await world.run("p", "app", "sh", "-c", PLANTS[plant].format(d=f"/k/pods/{uid}"))
        assert code == 0, said
        await world.run("p", "app", "touch", "/k/pods/shared/end")
        await asyncio.sleep(1)
        with contextlib.suppress(LookupError):
            async with asyncio.timeout(10):
                assert len(await world.logs("victim", "app", tail_lines=5)) < 1 << 20
        world.create(pod("after", shell("app", "exec sleep 600")))
        await world.ready("after")
        await world.delete("victim", grace=0)
        await world.delete("p", grace=0)
        kept = world.run_dir / "kubelet" / "pods" / uid
        await world.until(lambda: not os.path.lexists(kept))

    in_world(body)


def test_of_the_machines_files_a_node_and_its_pods_see_a_list_and_nothing_else() -> None:
    async def body(world: World) -> None:
        volumes = [{"name": "root", "hostPath": {"path": "/"}}]
        mounts = [{"name": "root", "mountPath": "/node"}]
        world.create(pod("p", shell("app", "exec sleep 600", volumeMounts=mounts), volumes=volumes))
        await world.ready("p")
        skipped = [*world.node.machine().binds, "/var/lib/sharedfate", "/var/lib/kubelet"]
        program = f"SKIPPED = {skipped + ['/node' + one for one in skipped]!r}" + LISTING
        code, said = await world.run("p", "app", "python3", "-c", program)
        assert code == 0, said
        seen = {path.removeprefix("/node") for path in json.loads(said)}
        skeleton = Path(f"/proc/{world.node.machine().pid}/root{HOME}/image")
        copied = [path for path in skeleton.rglob("*") if path.is_file() or path.is_symlink()]
        known = {f"/{path.relative_to(skeleton)}" for path in copied}
        assert {"/etc/passwd", "/etc/ssl/certs/ca-certificates.crt"} <= seen or not Path("/etc/ssl/certs").exists()
        own = ("hosts", "hostname", "resolv.conf", "cni/net.d/10-sharedfate.conflist")
        assert seen <= known | {f"/etc/{name}" for name in own}

    in_world(body)


def test_a_privileged_pod_does_its_work() -> None:
    """What node agents and helpers need: tun, other network namespaces, packet rules, their network's settings."""

    async def body(world: World) -> None:
        world.create(pod("victim", shell("app", "exec sleep 600")))
        world.create(pod("p", shell("app", "exec sleep 600", securityContext={"privileged": True}), hostPID=True))
        await world.ready("victim")
        await world.ready("p")
        uid = (world.get("victim") or {})["metadata"]["uid"]
        script = (
            "set -e\n"
            ": > /dev/null; head -c 4 /dev/urandom > /dev/null; exec 3<> /dev/net/tun\n"
            "nft add table inet x\n"
            "echo 1 > /proc/sys/net/ipv4/ip_forward\n"
            f"pid=$(grep -l pod{uid}/sandbox /proc/[0-9]*/cgroup | cut -d/ -f3 | head -1)\n"
            "nsenter --net=/proc/$pid/ns/net nft add table inet y\n"
            "echo fine"
        )
        assert await world.run("p", "app", "sh", "-c", script) == (0, "fine\n")

    in_world(body)


def test_the_list_holds_on_control_groups_of_version_2_too() -> None:
    """The eBPF program itself, on a group of the unified hierarchy, wherever that is mounted."""
    unified = next(
        (Path(p) for p in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if (Path(p) / "cgroup.procs").exists()), None
    )
    if unified is None:
        pytest.skip("no control groups of version 2 are mounted")
    group = unified / f"sharedfate-test-{os.getpid()}"
    group.mkdir()
    try:
        devices.attach_program(str(group))
        devices.attach_program(str(group))  # again: nothing to do
        program = (
            "import os, stat, sys\n"
            f"open('{group}/cgroup.procs', 'w').write('0')\n"
            "for path in ('/dev/null', '/dev/zero', '/dev/urandom', '/dev/net/tun'):\n"
            "    os.close(os.open(path, os.O_RDWR if 'tun' in path or 'null' in path else os.O_RDONLY))\n"
            "for kind, major, minor in [row.split() for row in sys.argv[1:]]:\n"
            "    sort = stat.S_IFBLK if kind == 'b' else stat.S_IFCHR\n"
            "    os.mknod('device', sort | 0o600, os.makedev(int(major), int(minor)))\n"
            "    try:\n"
            "        os.open('device', os.O_RDONLY)\n"
            "    except PermissionError:\n"
            "        print('refused')\n"
            "    os.unlink('device')\n"
        )
        rows = [*disks(), "c 1 1", "c 1 11", "c 10 237", "b 7 0"]
        done = subprocess.run(
            [sys.executable, "-c", program, *rows], capture_output=True, text=True, cwd="/dev/shm", check=False
        )
        assert done.stderr == ""
        assert done.stdout.count("refused") == len(rows)
    finally:
        group.rmdir()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
