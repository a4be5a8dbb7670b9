"""Images that pods may name: the running installation itself, and those loaded from docker or OCI archives.

There is no registry. `chaos.names.IMAGE` (and the comma-separated names in SHAREDFATE_IMAGE_ALIASES) is the machine's
own file system with the installation added; every other image comes from `load`. Layers are unpacked once, in
overlayfs' form, and shared by all nodes of the cluster.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from chaos.embedded.beneath import remove_tree
from chaos.embedded.kubelet.archives import HOPS, Archive, Budget, TarError, budget_of, digest_of, opened, unpack_layer
from chaos.embedded.kubelet.node_machine import HOME
from chaos.errors import Misuse
from chaos.names import IMAGE, full_image_name, is_image_name

ALIASES: Final = "SHAREDFATE_IMAGE_ALIASES"
MOST_NAMES: Final = 1_000  # of images in one archive
MOST_LAYERS: Final = 127  # of an image, as docker has it; their paths must fit into one mount's options
OWN_USER: Final = "65532:65532"  # of the installation's image, as its Dockerfile has it
BLOBS: Final = "blobs/sha256/"  # where an OCI layout keeps its contents, each by its digest
NAMED: Final = 24  # digits of a layer's digest that name its directory: 127 such names fit into a mount's options
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_BROKEN: Final = (
    TarError, OSError, EOFError, zlib.error, lzma.LZMAError, LookupError, ValueError, TypeError, AttributeError,
    OverflowError, RecursionError,
)  # what a stranger's archive may end in  # fmt: skip
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Image:
    """One image, as containers use it."""

    name: str
    digest: str  # sha256:…, the image's ID
    lower: tuple[str, ...]  # overlay layers, topmost first, as paths in a node
    installation: bool = False  # the running installation: its directories are bound into the container
    environment: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    directory: str = "/"
    user: str = ""
    size: int = 0


def search_path() -> str:
    """PATH in the installation's image: Envoy's own binary (not its Python wrapper), the environment, the system."""
    paths = [str(Path(sys.prefix) / "bin")]
    for site in (Path(sys.prefix) / "lib").glob("python3*/site-packages/envoy/_bin"):
        if (site / "envoy").is_file() and os.access(site / "envoy", os.X_OK):
            paths.insert(0, str(site))
    return ":".join([*paths, SYSTEM_PATH])


def own_names() -> list[str]:
    """The names under which pods may use the running installation as an image."""
    return [IMAGE, *(name.strip() for name in os.environ.get(ALIASES, "").split(",") if name.strip())]


class Images:
    """The images of one cluster, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._index = directory / "index.json"
        self._read_at = 0
        self._loaded: dict[str, Image] = {}
        digest = "sha256:" + hashlib.sha256(f"{sys.prefix} {sys.version}".encode()).hexdigest()
        self._own = {
            full_image_name(name): Image(
                name,
                digest,
                (f"{HOME}/image",),
                installation=True,
                environment={"PATH": search_path()},
                user=OWN_USER if name == IMAGE else "",  # an alias stands for an image that is not known
            )
            for name in own_names()
        }

    def find(self, name: str) -> Image | None:
        """The image of that name, or None. Includes images that another process loaded meanwhile."""
        wanted = full_image_name(name)
        if wanted in self._own:
            return self._own[wanted]
        self._refresh()
        return self._loaded.get(wanted)

    def largest(self, most: int) -> list[tuple[str, int]]:
        """(name, size in bytes) of at most `most` images, the largest first, for a Node's status."""
        self._refresh()
        sizes = ((name, image.size) for name, image in (self._own | self._loaded).items())
        return sorted(sizes, key=lambda one: (-one[1], one[0]))[:most]

    def _refresh(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            at = self._index.stat().st_mtime_ns
            if at != self._read_at:
                rows = orjson.loads(self._index.read_bytes())
                self._loaded = {
                    name: Image(
                        **{
                            **row,
                            "lower": tuple(row["lower"]),
                            "entrypoint": tuple(row["entrypoint"]),
                            "command": tuple(row["command"]),
                        }
                    )
                    for name, row in rows.items()
                }
                self._read_at = at

    def load(self, archive: Path, *, budget: Budget | None = None) -> list[str]:
        """Unpack a `docker save` or OCI archive; the names of its images. Raises Misuse, with the file and the problem,
        and leaves nothing behind then. `budget` replaces the bounds by the archive's size.
        """
        from chaos import documents

        fresh: list[Path] = []
        try:
            with documents.open_file(archive) as file:
                budget = budget or budget_of(file, self.directory)
                with opened(file, budget.size) as tar:
                    found = self._read_archive(Archive(tar, budget), archive, budget, fresh)
        except BaseException as error:
            for path in fresh:
                with contextlib.suppress(OSError):
                    remove_tree(path)
            if isinstance(error, _BROKEN):
                raise Misuse(
                    f"{archive}: not a docker or OCI image archive: {' '.join(str(error).split())[:500]}"
                ) from error
            raise
        self._refresh()
        for image in found:
            self._loaded[image.name] = image
        temporary = self._index.with_suffix(".new")
        temporary.write_bytes(orjson.dumps({name: asdict(image) for name, image in self._loaded.items()}))
        temporary.rename(self._index)
        return [image.name for image in found]

    def _read_archive(self, source: Archive, archive: Path, budget: Budget, fresh: list[Path]) -> list[Image]:
        if source.has("manifest.json"):
            entries = source.document("manifest.json")
            rows = [_Row(e["Config"], list(e["Layers"]), _names(e.get("RepoTags") or [])) for e in entries]
        elif source.has("index.json"):
            manifests = source.document("index.json")["manifests"]
            rows = [row for manifest in manifests for row in _read_oci(source, manifest)]
        else:
            raise Misuse(f"{archive}: contains neither manifest.json (docker save) nor index.json (OCI layout)")
        named = [(row, name) for row in rows for name in row.names]
        if not named:
            raise Misuse(f"{archive}: its images have no name; save them by name: docker save NAME:TAG")
        if len(named) > MOST_NAMES:
            raise ValueError(f"it names {len(named)} images, and at most {MOST_NAMES} are taken")
        return [self._make(source, row, name, budget, fresh) for row, name in named]

    def _make(self, source: Archive, row: _Row, name: str, budget: Budget, fresh: list[Path]) -> Image:
        if len(row.layers) > MOST_LAYERS:
            raise ValueError(f"{name[:200]!r} has {len(row.layers)} layers, and at most {MOST_LAYERS} are taken")
        raw = _blob(source, row.config)
        wishes = orjson.loads(raw).get("config") or {}
        unpacked = [self._unpack(source, layer, budget, fresh) for layer in row.layers]
        for kind, fields in ((list, ("Env", "Entrypoint", "Cmd")), (str, ("WorkingDir", "User"))):
            for field_name in fields:
                value = wishes.get(field_name)
                texts = value if isinstance(value, list) else [value]
                if value is not None and (not isinstance(value, kind) or not all(isinstance(t, str) for t in texts)):
                    raise ValueError(f"its configuration's {field_name} has the wrong type")
                if any("\0" in text for text in texts if text):
                    raise ValueError(f"its configuration's {field_name} contains a NUL")
        return Image(
            name,
            "sha256:" + hashlib.sha256(raw).hexdigest(),
            tuple(f"{HOME}/images/{layer}" for layer, _ in reversed(unpacked)),
            environment=dict(item.partition("=")[::2] for item in wishes.get("Env") or []),
            entrypoint=tuple(wishes.get("Entrypoint") or ()),
            command=tuple(wishes.get("Cmd") or ()),
            directory=wishes.get("WorkingDir") or "/",
            user=wishes.get("User") or "",
            size=sum(size for _, size in unpacked),
        )

    def _unpack(self, source: Archive, layer: str, budget: Budget, fresh: list[Path]) -> tuple[str, int]:
        """Unpack a layer once; (its directory's name, its size in the archive)."""
        with source.open(layer) as file:
            digest = digest_of(file)
            size = file.tell()
        _match(layer, digest)
        target = self.directory / digest[:NAMED]
        if not target.is_dir():
            scratch = Path(tempfile.mkdtemp(dir=self.directory, prefix="layer-"))
            fresh.append(scratch)
            with source.open(layer) as file:
                unpack_layer(file, scratch, budget)
            scratch.chmod(0o755)
            scratch.rename(target)
            fresh.append(target)
        return target.name, size


@dataclass(frozen=True, slots=True)
class _Row:
    """What an archive says of one image: the members that hold its configuration and its layers, and its names."""

    config: str
    layers: list[str]
    names: list[str]


def _names(given: Any) -> list[str]:
    """The full names; raises ValueError for one that no pod could write."""
    for name in given:
        if not isinstance(name, str) or not is_image_name(name):
            raise ValueError(f"{str(name)[:200]!r} is no name of an image")
    return [full_image_name(name) for name in given]


def _match(member: str, digest: str) -> None:
    """Raise ValueError when a member that is named by a digest has another one."""
    declared = member.removeprefix(BLOBS)
    if declared not in (member, digest):
        raise ValueError(f"the content of {member!r} does not match its digest")


def _blob(source: Archive, member: str) -> bytes:
    """Read a document whose name may be its digest; raises ValueError when it is another one's."""
    raw = source.text(member)
    _match(member, hashlib.sha256(raw).hexdigest())
    return raw


def _read_oci(
    source: Archive, entry: Mapping[str, Any], names: list[str] | None = None, depth: int = HOPS
) -> list[_Row]:
    """The images that an index entry refers to."""

    def member(digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{digest[:100]!r} is not a digest")
        return BLOBS + digest.removeprefix("sha256:")

    if not depth:
        raise ValueError("its indexes are nested too deeply")
    notes = entry.get("annotations") or {}
    found = notes.get("io.containerd.image.name") or notes.get("org.opencontainers.image.ref.name")
    names = _names([found]) if found else names or []
    manifest = orjson.loads(_blob(source, member(entry["digest"])))
    if "manifests" in manifest:
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        ours = [m for m in manifest["manifests"] if (m.get("platform") or {}).get("architecture", machine) == machine]
        return [row for m in ours for row in _read_oci(source, m, names, depth - 1)]
    return [
        _Row(member(manifest["config"]["digest"]), [member(layer["digest"]) for layer in manifest["layers"]], names)
    ]
