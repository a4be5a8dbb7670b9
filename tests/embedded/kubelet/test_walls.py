"""What a pod on a real node tries, and does not reach: the machine's disks, its kernel's settings, its files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chaos.embedded.kubelet import devices
from chaos.embedded.kubelet.spec import FORBIDDEN
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
        skeleton = world.run_dir / "skeleton"
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
