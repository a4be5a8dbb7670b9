"""A container's OCI configuration for runc, from the pod, its image and its volumes. Pure; the shape is
containerd's.
"""

from __future__ import annotations

import errno
import platform
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from chaos.embedded.kubelet import devices as devices_list
from chaos.embedded.kubelet.cgroups import Limits, oci_resources
from chaos.embedded.kubelet.environment import expand
from chaos.embedded.kubelet.images import Image
from chaos.embedded.kubelet.volumes import Volume
from chaos.embedded.quantity import parse_quantity
from chaos.embedded.resources import Object
from chaos.fields import whole_number

CAPABILITIES: Final = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)
ALL_CAPABILITIES: Final = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
)
READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
OPEN_FILES: Final = 65_536  # a server's figure; a login shell's 1,024 would end a proxy's experiment early
PLAIN: Final = ("nosuid", "noexec", "nodev")


class SpecError(ValueError):
    """The container cannot be created as specified: CreateContainerConfigError or CreateContainerError."""


@dataclass(frozen=True, slots=True)
class ContainerContext:
    """A container's inputs from its pod and node."""

    pause: int  # pid of the sandbox's pause process, in the node
    root: str  # path of the container's root file system, in the node
    hostname: str
    files: Mapping[str, str] = field(default_factory=dict)  # path in the container -> path in the node
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    installation: Mapping[str, str] = field(default_factory=dict)  # path in the container -> path in the node
    termination_log: str = ""
    pid_namespace: str = ""  # one to join instead of a new one
    parts: str = ""  # directory of the node in which it has put the subPaths, by the index of their mount


# What opens the machine rather than the node: no container has them, privileged or not (nodeinit.FORBIDDEN).
FORBIDDEN: Final = frozenset(
    (
        "DAC_READ_SEARCH",
        "LINUX_IMMUTABLE",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_PACCT",
        "SYS_BOOT",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "AUDIT_CONTROL",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
    )
)
TRACERS: Final = "-system"  # ends the names of namespaces in which nobody makes pods who is not trusted with the node
# System calls that no container makes: their subject is the whole machine, or a file system that is not mounted here.
CALLS: Final = (
    "open_by_handle_at", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "iopl",
    "ioperm", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "settimeofday", "stime", "clock_settime",
    "clock_settime64", "clock_adjtime", "clock_adjtime64", "adjtimex", "syslog", "reboot", "keyctl", "add_key",
    "request_key", "perf_event_open", "bpf", "lookup_dcookie", "nfsservctl", "vm86", "vm86old", "uselib",
)  # fmt: skip
# With CAP_SYS_ADMIN a container could mount a fresh /proc or /sys, in which nothing is read-only.
MOUNTS: Final = (
    "mount", "umount", "umount2", "pivot_root", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "move_mount",
    "mount_setattr",
)  # fmt: skip
KERNEL: Final = (
    *(f"/proc/sys/{name}" for name in ("abi", "crypto", "debug", "dev", "fs", "kernel", "user", "vm", "sunrpc")),
    *("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger"),
)  # read-only for a privileged container: all but its network's own settings


@cache
def held_capabilities() -> tuple[str, ...]:
    """The capabilities that this process may pass on: its bounding set, without those that act on the machine."""
    with open("/proc/self/status") as file:
        bits = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))
    return tuple(
        f"CAP_{name}" for number, name in enumerate(ALL_CAPABILITIES) if bits >> number & 1 and name not in FORBIDDEN
    )


def capabilities_in(namespace: str) -> tuple[str, ...]:
    """The capabilities that pods of that namespace may hold: SYS_PTRACE only where the cluster's own programs run.

    Without SYS_PTRACE, /proc shows neither memory nor namespaces of a process that holds more capabilities than the
    reader (ptrace(2), "Ptrace access mode checking"). The node's first process, runc and the node's other helpers hold
    them, and no system call of theirs is refused: writing their memory would make a pod root of the machine.
    """
    held = held_capabilities()
    return held if namespace.endswith(TRACERS) else tuple(name for name in held if name != "CAP_SYS_PTRACE")


def plan_capabilities(context: Mapping[str, Any], held: Sequence[str]) -> list[str]:
    """The container's capabilities: the default set with additions and drops, or all that are held."""
    if context.get("privileged"):
        return list(held)
    change = context.get("capabilities") or {}
    added = {name.upper().removeprefix("CAP_") for name in change.get("add") or []}
    dropped = {name.upper().removeprefix("CAP_") for name in change.get("drop") or []}
    chosen = set(ALL_CAPABILITIES) if "ALL" in added else set(CAPABILITIES)
    chosen = set() if "ALL" in dropped else chosen - dropped
    chosen |= added - {"ALL"}
    return [name for name in held if name.removeprefix("CAP_") in chosen]


def plan_seccomp(capabilities: Sequence[str]) -> dict[str, Any]:
    """The system calls that a container may make: all but a list, which return EPERM."""
    families = {
        "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    }
    names = [*CALLS, *(MOUNTS if "CAP_SYS_ADMIN" in capabilities else ())]
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": families.get(platform.machine(), []),
        "syscalls": [{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM}],
    }


def _user_id(text: str) -> int:
    """The number of an image's user or group. Raises SpecError."""
    number = whole_number(text)
    if number is None:
        raise SpecError(
            f"the image's user is a name ({text[:64]}), and here it must be a number: set securityContext.runAsUser"
        )
    if not 0 <= number < 1 << 31:
        raise SpecError(f"the image's user {number} is not from 0 to {(1 << 31) - 1}: set securityContext.runAsUser")
    return number


def plan_user(pod: Object, container: Mapping[str, Any], image: Image) -> dict[str, Any]:
    """uid, gid, additionalGids. Raises SpecError when runAsNonRoot is violated."""
    context = {**(pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}
    name, _, group = image.user.partition(":")
    uid = context.get("runAsUser")
    if uid is None:
        uid = 0 if name in ("", "root") else _user_id(name)
    root = context.get("runAsUser") == 0  # whose group is its own, whatever the image's user
    gid = context.get("runAsGroup", 0 if root or group in ("", "root") else _user_id(group))
    if context.get("runAsNonRoot") and uid == 0:
        raise SpecError(
            "container has runAsNonRoot and image will run as root "
            f'(pod: "{pod["metadata"]["name"]}_{pod["metadata"]["namespace"]}({pod["metadata"]["uid"]})", '
            f"container: {container['name']})"
        )
    extra = list(context.get("supplementalGroups") or [])
    if (fs_group := context.get("fsGroup")) is not None:
        extra.append(fs_group)
    return {"uid": uid, "gid": gid, "additionalGids": sorted({gid, *extra})}


def plan_arguments(container: Mapping[str, Any], image: Image, variables: Mapping[str, str]) -> list[str]:
    """The container's command line. Raises SpecError when there is none."""
    command = [expand(part, variables) for part in container.get("command") or []]
    arguments = [expand(part, variables) for part in container.get("args") or []]
    if not command:
        command = list(image.entrypoint)
        arguments = arguments or list(image.command)
    if not command + arguments:
        raise SpecError("no command specified: the image has none, so set the container's `command`")
    return command + arguments


def plan_oom_score(container: Mapping[str, Any], quality: str, memory: int) -> int:
    """oom_score_adj, by pkg/kubelet/qos: the order in which the kernel kills for lack of memory."""
    if quality == "Guaranteed":
        return -997
    if quality == "BestEffort":
        return 1000
    request = container.get("resources", {}).get("requests", {}).get("memory", 0)
    return int(min(999, max(3, 1000 - 1000 * int(parse_quantity(request)) // max(1, memory))))


def _part(mount: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """The part of its volume that a mount shows, "" for all of it. Raises SpecError for a path that leads out."""
    expression = mount.get("subPathExpr")
    part = expand(expression, variables) if expression else mount.get("subPath") or ""
    if ".." in part.split("/") or part.startswith("/") or "\0" in part:
        raise SpecError(f"subPath {part!r} of volume {mount['name']} must be a relative path and not contain '..'")
    return part


def plan_parts(
    container: Mapping[str, Any], volumes: Mapping[str, Volume], variables: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The subPaths that the node resolves beneath their volumes, and makes when missing. Raises SpecError."""
    return [
        {"index": index, "source": volume.source, "part": part, "make": not volume.files}
        for index, mount in enumerate(container.get("volumeMounts") or [])
        if (volume := volumes.get(mount["name"])) is not None and (part := _part(mount, variables))
    ]


def plan_mounts(
    container: Mapping[str, Any],
    around: ContainerContext,
    image: Image,
    variables: Mapping[str, str],
    *,
    privileged: bool,
) -> list[dict[str, Any]]:
    """All mounts, in order. Raises SpecError for an undefined volume."""
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": list(PLAIN)},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*PLAIN, "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": list(PLAIN)},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*PLAIN, "ro"]},
    ]
    if privileged:  # runs the node's own tools: it sees the node's cgroups
        mounts.append(_bind("/sys/fs/cgroup", "/sys/fs/cgroup", readonly=False))
    else:  # its own alone, as programs read their limits
        options = [*PLAIN, "relatime", "ro"]
        mounts.append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options})
    if image.installation:
        mounts += [_bind(source, path, readonly=True) for path, source in around.installation.items()]
    mounts += [_bind(source, path, readonly=False) for path, source in around.files.items()]
    if around.termination_log:
        mounts.append(
            _bind(
                around.termination_log,
                container.get("terminationMessagePath") or "/dev/termination-log",
                readonly=False,
            )
        )
    for index, mount in enumerate(container.get("volumeMounts") or []):
        volume = around.volumes.get(mount["name"])
        if volume is None:
            raise SpecError(f'volume "{mount["name"]}" not found in the pod')
        source = f"{around.parts}/{index}" if _part(mount, variables) else volume.source
        readonly = bool(mount.get("readOnly")) or volume.files or volume.readonly
        entry = _bind(source, mount["mountPath"], readonly=readonly)
        if (spread := mount.get("mountPropagation")) in ("Bidirectional", "HostToContainer"):
            entry["options"] = [o for o in entry["options"] if o != "rprivate"] + [
                "rshared" if spread == "Bidirectional" else "rslave"
            ]
        mounts.append(entry)
    return mounts


def _bind(source: str, destination: str, *, readonly: bool) -> dict[str, Any]:
    options = ["rbind", "rprivate", "ro" if readonly else "rw"]
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def plan_spec(
    pod: Object,
    container: Mapping[str, Any],
    image: Image,
    variables: Mapping[str, str],
    around: ContainerContext,
    *,
    limits: Limits,
    cgroup: str,
    oom_score: int | None,
) -> dict[str, Any]:
    """config.json for runc. Raises SpecError."""
    spec = pod["spec"]
    context = container.get("securityContext") or {}
    privileged = bool(context.get("privileged"))
    user = plan_user(pod, container, image)
    capabilities = plan_capabilities(context, capabilities_in(pod["metadata"].get("namespace", "")))
    namespaces = [{"type": "mount"}]
    if around.pid_namespace:
        namespaces.append({"type": "pid", "path": around.pid_namespace})
    elif not spec.get("hostPID"):
        namespaces.append({"type": "pid"})
    if not spec.get("hostNetwork"):
        namespaces.append({"type": "network", "path": f"/proc/{around.pause}/ns/net"})
    if not spec.get("hostIPC"):
        namespaces.append({"type": "ipc", "path": f"/proc/{around.pause}/ns/ipc"})
    namespaces.append({"type": "uts", "path": f"/proc/{around.pause}/ns/uts"})
    devices = (
        [
            {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o666},
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666},
        ]
        if privileged
        else []
    )
    rules = devices_list.RULES if privileged else [{"allow": False, "access": "rwm"}]
    process: dict[str, Any] = {
        "terminal": bool(container.get("tty")),
        "user": user,
        "args": plan_arguments(container, image, variables),
        "env": [f"{key}={value}" for key, value in variables.items()],
        "cwd": container.get("workingDir") or image.directory or "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "noNewPrivileges": context.get("allowPrivilegeEscalation") is False,
    }
    if oom_score is not None:
        process["oomScoreAdj"] = oom_score
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": min(most, OPEN_FILES), "hard": most}]
    sysctls = {s["name"]: s["value"] for s in (spec.get("securityContext") or {}).get("sysctls") or []}
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": around.root, "readonly": bool(context.get("readOnlyRootFilesystem"))},
        "hostname": around.hostname,
        "mounts": plan_mounts(container, around, image, variables, privileged=privileged),
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": cgroup,
            "devices": devices,
            "sysctl": sysctls,
            "resources": oci_resources(limits) | {"devices": rules},
            "seccomp": plan_seccomp(capabilities),
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(KERNEL if privileged else READ_ONLY),
        },
    }
