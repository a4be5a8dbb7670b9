"""Image archives and their layers, read as untrusted input.

Only the layers of an archive are unpacked, and a layer's members are made one by one beneath its own directory
(beneath.py): no name, link or whiteout leads out of it. Devices are never made. The unpacked size is bounded, in bytes
and in members, before anything is written; so is what documents refer to, however often they do.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import orjson

from chaos.embedded.beneath import Beneath

if sys.version_info >= (3, 11, 4):
    import tarfile
else:  # Debian 12 has 3.11.2
    from backports import tarfile  # type: ignore[no-redef]

TarError: Final = tarfile.TarError
WHITEOUT, OPAQUE, META = ".wh.", ".wh..wh..opq", ".wh..wh."
OPAQUE_ATTRIBUTE: Final = "trusted.overlay.opaque"
MEMBERS: Final = 400_000  # of all layers together, with the directories that their names imply
LONGEST: Final = 4095  # bytes of a member's name, PATH_MAX without its NUL: no program could open a longer one
LARGEST: Final = 32 << 30  # bytes, however large the archive
LEAST: Final = 256 << 20  # bytes that a small archive may become
RATIO: Final = 40  # times its size that a large one may become
DOCUMENT: Final = 8 << 20  # bytes of a manifest or a configuration
HEADER: Final = 16 << 20  # bytes that are read at once: of a tar's extended header, which is held in memory
HOPS: Final = 4  # links between members of an archive, and indexes within indexes
CHUNK: Final = 1 << 20


@dataclass(slots=True)
class Budget:
    """The remaining bytes and members of an archive's bounds. Exceeding them raises ValueError."""

    size: int
    members: int = MEMBERS

    def spend(self, size: int, members: int = 0) -> None:
        self.size -= size
        self.members -= members
        if self.size < 0:
            raise ValueError("unpacked, it is larger than its limit")
        if self.members < 0:
            raise ValueError(f"it has more than {MEMBERS} members")


def budget_of(archive: IO[bytes], directory: Path) -> Budget:
    """The bounds of an archive that is unpacked into the directory: by its size, and half of the free space."""
    room, size = os.statvfs(directory), os.fstat(archive.fileno()).st_size
    return Budget(min(LARGEST, max(LEAST, RATIO * size), room.f_bavail * room.f_frsize // 2))


class _Bounded(io.RawIOBase):
    """A decompressed file that raises ValueError at its bound."""

    def __init__(self, inner: IO[bytes], limit: int) -> None:
        self._inner, self._limit = inner, limit

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > HEADER:
            raise ValueError("one of its headers is too large")
        data = self._inner.read(size)
        self._check(self._inner.tell())
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._check(offset if whence == 0 else self._inner.tell() + offset)
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()

    def _check(self, position: int) -> None:
        if position > self._limit:
            raise ValueError("unpacked, it is larger than its limit")


@contextlib.contextmanager
def opened(file: IO[bytes], limit: int) -> Iterator[tarfile.TarFile]:
    """Open a tar, compressed or not, of at most `limit` bytes when decompressed."""
    magic = file.read(6)
    file.seek(0)
    inner: Any = file
    if magic.startswith(b"\x1f\x8b"):
        inner = gzip.GzipFile(fileobj=file, mode="rb")
    elif magic.startswith(b"BZh"):
        inner = bz2.BZ2File(file)
    elif magic.startswith(b"\xfd7zXZ"):
        inner = lzma.LZMAFile(file)  # noqa: SIM115  (its file is the caller's)
    elif magic.startswith(b"\x28\xb5\x2f\xfd"):
        raise ValueError("it is compressed with zstd, which is not supported: save it with gzip or uncompressed")
    bounded: Any = _Bounded(inner, limit)
    with tarfile.open(fileobj=bounded, mode="r:") as tar:
        yield tar


class Archive:
    """The outer tar: documents and layers by name, never unpacked."""

    def __init__(self, tar: tarfile.TarFile, budget: Budget) -> None:
        self._tar, self._budget = tar, budget
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in tar:
            budget.spend(0, 1)
            self._members[_plain(member.name)] = member

    def has(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> IO[bytes]:
        """Open a member; a link between members (docker links equal layers) is followed by name. Raises ValueError."""
        asked = name
        for _ in range(HOPS):
            if ".." in name.split("/") or name.startswith("/"):
                break
            member = self._members.get(_plain(name))
            if member is None:
                break
            if member.isreg():
                found: IO[bytes] | None = self._tar.extractfile(member)
                if found is not None:
                    return found
                break
            if member.issym():
                name = os.path.normpath(os.path.join(os.path.dirname(_plain(name)), member.linkname))
            elif member.islnk():
                name = member.linkname
            else:
                break
        raise ValueError(f"it contains no file {str(asked)[:200]!r}")

    def document(self, name: str) -> Any:
        """Read a JSON document."""
        return orjson.loads(self.text(name))

    def text(self, name: str) -> bytes:
        """Read a document's bytes, at the budget's cost each time: an index may refer to one as often as it likes."""
        with self.open(name) as file:
            data = file.read(DOCUMENT + 1)
        if len(data) > DOCUMENT:
            raise ValueError(f"{name!r} is larger than {DOCUMENT} bytes")
        self._budget.spend(len(data), 1)
        return data


def _plain(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def digest_of(file: IO[bytes]) -> str:
    """SHA-256 of the rest of a file, as hex digits."""
    found = hashlib.sha256()
    while chunk := file.read(CHUNK):
        found.update(chunk)
    return found.hexdigest()


def unpack_layer(file: IO[bytes], target: Path, budget: Budget) -> None:
    """Unpack a layer in overlayfs' form: whiteouts become character devices 0:0, opaque markers an attribute.

    Raises ValueError for a member that leads out of the layer, is a device, or exceeds the bounds; tarfile.TarError and
    OSError.
    """
    layer = Beneath(target)
    with opened(file, budget.size + 1024 * (budget.members + 2)) as tar:
        for member in tar:
            budget.spend(0, 1)
            try:
                _make(layer, tar, member, budget)
            except OverflowError as error:
                raise ValueError(f"{member.name[:200]!r}: {error}") from error
            except OSError as error:
                raise ValueError(
                    f"{member.name[:200]!r} leads out of the image, or cannot be created: {error}"
                ) from error


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise ValueError(f"{name[:200]!r} leads out of the image")
    if len(os.fsencode(name)) > LONGEST:
        raise ValueError(f"{name[:200]!r}... is longer than a path can be")
    return parts


def _make(layer: Beneath, tar: tarfile.TarFile, member: tarfile.TarInfo, budget: Budget) -> None:
    parts = _parts(member.name)
    if not parts:
        return  # the root itself
    path, parent, name = "/".join(parts), "/".join(parts[:-1]), parts[-1]
    budget.spend(0, layer.make(parent))
    if name.startswith(WHITEOUT):
        _white_out(layer, parent, name)
    elif member.isdir():
        try:
            layer.make(path)
        except OSError:  # something else has its name
            layer.remove(path)
            layer.make(path)
        with layer.directory(path) as descriptor:
            _dress(descriptor, member)
    elif member.issym():
        layer.link(member.linkname, path)
        with layer.directory(parent) as directory:
            os.chown(name, member.uid, member.gid, dir_fd=directory, follow_symlinks=False)
    elif member.islnk():
        _link(layer, member, parent, name)
    elif member.isreg():
        layer.remove(path)
        _copy(layer, tar, member, parent, name, budget)
    elif member.isfifo():
        layer.remove(path)
        with layer.directory(parent) as directory:
            os.mkfifo(name, member.mode & 0o777, dir_fd=directory)
    elif parts[0] != "dev":  # a container has a /dev of its own: what an image has there is never seen
        raise ValueError(f"{member.name[:200]!r} is a device")


def _white_out(layer: Beneath, parent: str, name: str) -> None:
    hidden = name.removeprefix(WHITEOUT)
    with layer.directory(parent) as directory:
        if name == OPAQUE:
            os.setxattr(directory, OPAQUE_ATTRIBUTE, b"y")
        elif not name.startswith(META):  # aufs' own bookkeeping
            if hidden in ("", ".", ".."):
                raise ValueError(f"{name!r} is a whiteout of no valid file name")
            layer.remove(f"{parent}/{hidden}" if parent else hidden)
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=directory)


def _link(layer: Beneath, member: tarfile.TarInfo, parent: str, name: str) -> None:
    """Make a hard link to a regular file of the same layer."""
    parts = _parts(member.linkname)
    if not parts or parts == [*parent.split("/"), name]:
        raise ValueError(f"{member.name[:200]!r} is a hard link to itself or to nothing")
    with layer.directory("/".join(parts[:-1])) as source, layer.directory(parent) as directory:
        if not stat.S_ISREG(os.stat(parts[-1], dir_fd=source, follow_symlinks=False).st_mode):
            raise ValueError(f"{member.name[:200]!r} is a hard link to something that is not a regular file")
        layer.remove(f"{parent}/{name}" if parent else name)
        os.link(parts[-1], name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)


def _copy(
    layer: Beneath, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: str, name: str, budget: Budget
) -> None:
    budget.spend(member.size)
    source: IO[bytes] | None = tar.extractfile(member)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with layer.directory(parent) as directory:
        target = os.open(name, flags, 0o600, dir_fd=directory)
        try:
            left = member.size
            while source is not None and left > 0 and (chunk := source.read(min(CHUNK, left))):
                view = memoryview(chunk)
                while view:
                    view = view[os.write(target, view) :]
                left -= len(chunk)
            if left:
                raise ValueError(f"{member.name[:200]!r} is shorter than its header says")
            _dress(target, member)
        finally:
            os.close(target)


def _dress(descriptor: int, member: tarfile.TarInfo) -> None:
    """Set owner, mode (with set-id bits, which only containers can use) and time."""
    os.fchown(descriptor, member.uid, member.gid)
    os.fchmod(descriptor, member.mode & 0o7777)
    with contextlib.suppress(OverflowError, ValueError, OSError):
        os.utime(descriptor, (member.mtime, member.mtime))
