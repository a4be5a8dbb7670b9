"""The devices that a cluster's pods may open: an allow list, enforced by the kernel above the nodes.

A privileged container may make device files and mount what they name. The list is therefore on the cluster's own
control group, one level above each node's: a node sees its own group as the root and can change nothing above it.
Version 1 has a `devices` controller; in version 2 a small eBPF program decides
(Documentation/admin-guide/cgroup-v2.rst, "Device controller"), and a container's own program can only restrict further.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct
from typing import Final

from chaos.embedded.kubelet import cgroups
from chaos.errors import EnvironmentUnfit

# (major, minor) of the character devices, None for any minor
ALLOWED: Final[tuple[tuple[int, int | None], ...]] = (
    (1, 3),  # null
    (1, 5),  # zero
    (1, 7),  # full
    (1, 8),  # random
    (1, 9),  # urandom
    (5, 0),  # tty
    (5, 1),  # console
    (5, 2),  # ptmx
    (136, None),  # pts
    (10, 200),  # net/tun
    (10, 229),  # fuse
)
RULES: Final = [
    {"allow": False, "access": "rwm"},
    *(
        {"allow": True, "type": "c", "major": major, "access": "rwm"} | ({} if minor is None else {"minor": minor})
        for major, minor in ALLOWED
    ),
]  # of a privileged container, in runc's words: all that its cluster has

_SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_ATTACH, _PROG_QUERY = 5, 8, 16
_CGROUP_DEVICE_PROGRAM, _CGROUP_DEVICE, _ALLOW_MULTI = 15, 6, 2
_CHARACTER, _MKNOD = 2, 1  # of bpf_cgroup_dev_ctx: the type, and the access bit that makes a file and opens nothing


def plan_writes() -> list[tuple[str, str]]:
    """(file, text) for a version 1 group without children. Making a device file is allowed (runc needs it, with
    CAP_MKNOD); the list restricts opening it.
    """
    lines = [f"c {major}:{'*' if minor is None else minor} rwm" for major, minor in ALLOWED]
    return [("devices.deny", "a"), *(("devices.allow", line) for line in ("c *:* m", "b *:* m", *lines))]


def _instruction(code: int, to: int, source: int, jump: int, value: int) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | to, jump, value)


def plan_program() -> bytes:
    """The list as an eBPF program: R1 points to (access << 16 | type, major, minor), R0 is 1 to allow."""
    load, and_, shift = 0x61, 0x54, 0x74
    equal, differs, constant, end = 0x15, 0x55, 0xB4, 0x95
    yes = _instruction(constant, 0, 0, 0, 1) + _instruction(end, 0, 0, 0, 0)
    text = b"".join(
        (
            _instruction(load, 2, 1, 0, 0),
            _instruction(and_, 2, 0, 0, 0xFFFF),  # R2: the type
            _instruction(load, 3, 1, 0, 0),
            _instruction(shift, 3, 0, 0, 16),  # R3: the access
            _instruction(load, 4, 1, 4, 0),  # R4: major
            _instruction(load, 5, 1, 8, 0),  # R5: minor
            _instruction(differs, 3, 0, 2, _MKNOD) + yes,
            _instruction(equal, 2, 0, 2, _CHARACTER)
            + _instruction(constant, 0, 0, 0, 0)
            + _instruction(end, 0, 0, 0, 0),
        )
    )
    for major, minor in ALLOWED:
        skip = 2 if minor is None else 3
        text += _instruction(differs, 4, 0, skip, major)
        if minor is not None:
            text += _instruction(differs, 5, 0, 2, minor)
        text += yes
    return text + _instruction(constant, 0, 0, 0, 0) + _instruction(end, 0, 0, 0, 0)


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of bpf(2) on {platform.machine()} is not known")
    held = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = libc.syscall(number, command, held, 128)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"bpf({command}): {os.strerror(code)}")
    return int(result)


def attach_program(directory: str) -> None:
    """Attach the program to a version 2 group, for it and all below, unless it has one. Raises OSError."""
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _attached(group):
            return
        text, licence = ctypes.create_string_buffer(plan_program()), ctypes.create_string_buffer(b"Apache-2.0")
        count = len(plan_program()) // 8
        addresses = struct.pack("QQ", ctypes.addressof(text), ctypes.addressof(licence))
        program = _bpf(_PROG_LOAD, struct.pack("II", _CGROUP_DEVICE_PROGRAM, count) + addresses)
        try:
            _bpf(_PROG_ATTACH, struct.pack("IIII", group, program, _CGROUP_DEVICE, _ALLOW_MULTI))
        finally:
            os.close(program)
    finally:
        os.close(group)


def _attached(group: int) -> int:
    """The number of device programs attached to a group itself."""
    attributes = ctypes.create_string_buffer(struct.pack("IIIIQI", group, _CGROUP_DEVICE, 0, 0, 0, 0), 128)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_SYS_BPF.get(platform.machine(), -1), _PROG_QUERY, attributes, 128) < 0:
        return 0
    return int(struct.unpack_from("IIIIQI", attributes.raw)[5])


def wall(path: str) -> None:
    """Enforce the list below the group at `path`; call it before the first node is made there. Idempotent. Raises
    EnvironmentUnfit where the kernel cannot.
    """
    where = cgroups.controllers()
    try:
        if "" in where:
            os.makedirs(where[""] + path, exist_ok=True)
            attach_program(where[""] + path)
            return
        if "devices" not in where:
            raise OSError(errno.ENOENT, "the devices controller is not mounted")
        directory = where["devices"] + path
        os.makedirs(directory, exist_ok=True)
        with open(f"{directory}/devices.list") as file:
            if file.read().strip() != "a *:* rwm":
                return
        for name, text in plan_writes():
            with open(f"{directory}/{name}", "w") as file:
                file.write(text)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.rmdir(where.get("devices", where.get("", "")) + path)
        raise EnvironmentUnfit(
            f"cannot keep nodes off the machine's disks ({error.strerror or error}): mount the devices controller "
            "of control groups (version 1), or use a kernel with CONFIG_CGROUP_BPF (version 2)"
        ) from error
