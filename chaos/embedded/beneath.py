"""Access files in directories that a node can write, beneath a given root and never through a link.

A pod with a hostPath volume may replace any file of its node's kubelet directory by a symbolic link, a FIFO or a
directory at any moment. Everything that the server reads, writes or removes there therefore goes through this module:
the kernel refuses to leave the directory or to follow a link (openat2(2), Linux 5.6), only regular files are opened for
reading, and a tree is removed without descending more than two levels.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_OPENAT2: Final = 437  # the same number on every architecture
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
_HOW: Final = struct.Struct("QQQ")  # struct open_how: flags, mode, resolve
_AGAIN: Final = 64  # tries of a resolution that raced with a rename, which the kernel answers with EAGAIN
_PATIENCE: Final = 30.0  # seconds for which a tree is removed that somebody goes on writing into
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY


def openat2(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` beneath the open directory, following no link of any kind. Raises OSError."""
    resolve = _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS
    how = ctypes.create_string_buffer(_HOW.pack(flags | os.O_CLOEXEC, mode, resolve), _HOW.size)
    if "\0" in path:
        raise OSError(errno.EINVAL, "the path contains a NUL", path)
    for _ in range(_AGAIN):
        descriptor = _LIBC.syscall(_OPENAT2, directory, os.fsencode(path), how, ctypes.c_size_t(_HOW.size))
        if descriptor >= 0:
            return int(descriptor)
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, os.strerror(code), path)
    raise OSError(errno.EAGAIN, f"the path was renamed during each of {_AGAIN} attempts", path)


@dataclass(frozen=True, slots=True)
class Beneath:
    """A directory that a node can write. Every path is relative to it and stays inside it.

    Attributes:
        root: its path on the machine, which no node can change.
        prefix: where below it paths begin, "" or such as `pods/UID`; resolved as carefully as they are.
    """

    root: Path
    prefix: str = ""

    def below(self, path: str) -> Beneath:
        """The same view, one directory further down."""
        return Beneath(self.root, self._full(path))

    def _full(self, path: str) -> str:
        return "/".join(part for part in (self.prefix, path) if part)

    @contextmanager
    def _opened(self, path: str, flags: int, mode: int = 0) -> Iterator[int]:
        top = os.open(self.root, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            descriptor = openat2(top, self._full(path) or ".", flags, mode)
        finally:
            os.close(top)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """(descriptor of the directory that holds `path`, the last part of its name)."""
        whole, _, name = self._full(path).rpartition("/")
        if name in ("", ".", ".."):
            raise OSError(errno.EINVAL, "the path does not name a file", path)
        with Beneath(self.root)._opened(whole, _DIRECTORY) as directory:
            yield directory, name

    @contextmanager
    def directory(self, path: str = "") -> Iterator[int]:
        """Open an existing directory."""
        with self._opened(path, _DIRECTORY) as descriptor:
            yield descriptor

    def make(self, path: str = "", *, mode: int | None = None, group: int | None = None) -> int:
        """Make a directory and its missing parents; how many that were. `mode` and `group` apply to the last alone."""
        made, parts = 0, [part for part in self._full(path).split("/") if part not in ("", ".")]
        here = os.open(self.root, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with suppress(FileNotFoundError):  # mostly it is there, and one call finds it however deep it lies
                there = openat2(here, "/".join(parts) or ".", _DIRECTORY)
                os.close(here)
                here, parts = there, []
            for part in parts:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=here)
                    made += 1
                following = openat2(here, part, _DIRECTORY)
                os.close(here)
                here = following
            if group is not None:
                os.fchown(here, -1, group)
            if mode is not None:
                os.fchmod(here, mode)
        finally:
            os.close(here)
        return made

    def stream(self, path: str) -> BinaryIO:
        """Open a regular file for reading. Raises OSError for anything else: a FIFO would block, a device may act."""
        with self._opened(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            return os.fdopen(os.dup(descriptor), "rb")

    def read(self, path: str, limit: int) -> bytes:
        """Read the first `limit` bytes of a regular file."""
        with self.stream(path) as file:
            return file.read(limit)

    def write(
        self, path: str, data: bytes, *, mode: int = 0o644, user: int | None = None, group: int | None = None
    ) -> None:
        """Replace whatever lies at `path` by a new regular file with these contents. Its parent exists."""
        with self._parent(path) as (directory, name):
            temporary = f"..{secrets.token_hex(8)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=directory), "wb") as file:
                file.write(data)
                file.flush()
                if user is not None or group is not None:
                    os.fchown(file.fileno(), -1 if user is None else user, -1 if group is None else group)
                os.fchmod(file.fileno(), mode)
            _put(directory, temporary, name)

    def link(self, target: str, path: str) -> None:
        """Point a symbolic link at `target`, atomically; the target itself is not looked at."""
        with self._parent(path) as (directory, name):
            temporary = f"..{secrets.token_hex(8)}"
            os.symlink(target, temporary, dir_fd=directory)
            _put(directory, temporary, name)

    def target(self, path: str) -> str | None:
        """The target of a symbolic link; None when there is no link."""
        try:
            with self._parent(path) as (directory, name):
                return os.readlink(name, dir_fd=directory)
        except OSError:
            return None

    def names(self, path: str = "") -> dict[str, int]:
        """Entries of a directory: name -> file mode (links not followed)."""
        with self.directory(path) as descriptor, os.scandir(descriptor) as entries:
            return {entry.name: entry.stat(follow_symlinks=False).st_mode for entry in entries}

    def inode(self, path: str) -> int | None:
        """Inode of the entry; None when there is none."""
        try:
            with self._parent(path) as (directory, name):
                return os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
        except OSError:
            return None

    def remove(self, path: str) -> None:
        """Remove a file, a link or a tree; a missing one is no error. Raises OSError when something stays."""
        with suppress(FileNotFoundError), self._parent(path) as (directory, name):
            remove_entry(directory, name)


def _put(directory: int, temporary: str, name: str) -> None:
    """Rename a new file or link into place; remove a directory that lies there first."""
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except IsADirectoryError:
        remove_entry(directory, name)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def remove_entry(directory: int, name: str) -> None:
    """Remove one entry of an open directory, following no link.

    A tree is made flat first: what lies deeper moves up beside its parent until every directory is empty. So neither
    its depth nor whoever moves directories in it meanwhile matters.
    """
    if _unlinked(directory, name):
        return
    pending = [name]
    end = time.monotonic() + _PATIENCE
    while pending:
        one = pending[-1]
        try:
            inside = os.open(one, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError:
            pending.pop()
            continue
        except OSError:
            if not _unlinked(directory, one):
                raise
            pending.pop()
            continue
        try:
            with os.scandir(inside) as entries:
                held = [entry.name for entry in entries]
            deeper = [entry for entry in held if not _unlinked(inside, entry)]
            moved = []
            for entry in deeper:
                place = f"..{secrets.token_hex(8)}"
                with suppress(FileNotFoundError):
                    os.rename(entry, place, src_dir_fd=inside, dst_dir_fd=directory)
                    moved.append(place)
        finally:
            os.close(inside)
        try:
            os.rmdir(one, dir_fd=directory)
            pending.pop()
        except FileNotFoundError:
            pending.pop()
        except OSError as error:  # somebody wrote into it again: it stays on the list, for a while
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or time.monotonic() > end:
                raise
        pending += moved


def _unlinked(directory: int, name: str) -> bool:
    """Whether the entry was unlinked; False for a directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):
        return False
    return True


def remove_tree(path: Path) -> None:
    """Remove a file or a tree whose parent is the machine's own, as `remove_entry` does. Raises OSError."""
    with suppress(FileNotFoundError):
        parent = os.open(path.parent, _DIRECTORY | os.O_CLOEXEC)
        try:
            remove_entry(parent, path.name)
        finally:
            os.close(parent)
