"""Images that pods may name: the running installation itself, and what was loaded from docker or OCI archives.

There is no registry. `chaos.names.IMAGE` (and the names in SHAREDFATE_IMAGE_ALIASES, separated by commas) is the
machine's own file system with the installation put back in; everything else comes from `load`. Layers are unpacked
once, in overlayfs' own form, and shared by all nodes of the cluster.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import orjson

from chaos.embedded.kubelet.machine import HOME
from chaos.errors import Misuse
from chaos.names import IMAGE

if sys.version_info >= (3, 11, 4):
    import tarfile
else:  # Debian 12 has 3.11.2, whose tarfile does not check what it unpacks
    from backports import tarfile  # type: ignore[no-redef]

ALIASES: Final = "SHAREDFATE_IMAGE_ALIASES"
OWN_USER: Final = "65532:65532"  # of the installation's image, as its Dockerfile has it
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Image:
    """One image as containers use it."""

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


def normal(name: str) -> str:
    """The full name: registry, repository and tag, as containerd spells it."""
    if "@" in name:
        return name
    first, _, rest = name.partition("/")
    if not rest:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def search_path() -> str:
    """PATH of the installation's image: Envoy's own binary (not its Python wrapper), the environment, the system."""
    paths = [str(Path(sys.prefix) / "bin")]
    for site in (Path(sys.prefix) / "lib").glob("python3*/site-packages/envoy/_bin"):
        if (site / "envoy").is_file() and os.access(site / "envoy", os.X_OK):
            paths.insert(0, str(site))
    return ":".join([*paths, SYSTEM_PATH])


class Images:
    """The images of one cluster, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._index = directory / "index.json"
        self._read_at = 0
        self._loaded: dict[str, Image] = {}
        digest = "sha256:" + hashlib.sha256(f"{sys.prefix} {sys.version}".encode()).hexdigest()
        own = [IMAGE, *(name.strip() for name in os.environ.get(ALIASES, "").split(",") if name.strip())]
        self._own = {
            normal(name): Image(
                name,
                digest,
                (f"{HOME}/image",),
                installation=True,
                environment={"PATH": search_path()},
                user=OWN_USER if name == IMAGE else "",  # an alias stands for an image that is not known
            )
            for name in own
        }

    def find(self, name: str) -> Image | None:
        """The image of that name, or None. Sees what another process loaded in the meantime."""
        wanted = normal(name)
        if wanted in self._own:
            return self._own[wanted]
        self._refresh()
        return self._loaded.get(wanted)

    def names(self) -> list[tuple[str, int]]:
        """(name, size in bytes) of every image, for a Node's status."""
        self._refresh()
        return sorted((name, image.size) for name, image in (self._own | self._loaded).items())

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

    def load(self, archive: Path) -> list[str]:
        """Unpack a `docker save` or OCI archive. -> names of its images. Raises Misuse, naming the file and what is
        wrong.
        """
        try:
            with (
                tempfile.TemporaryDirectory(dir=self.directory, prefix="load-") as scratch,
                tarfile.open(archive) as tar,
            ):
                tar.extractall(scratch, filter="data")
                found = list(self._read_archive(Path(scratch), archive))
        except (tarfile.TarError, OSError, KeyError, ValueError) as error:
            raise Misuse(
                f"{archive}: not an image archive of docker or OCI form: {' '.join(str(error).split())}"
            ) from error
        self._refresh()
        for image in found:
            self._loaded[image.name] = image
        temporary = self._index.with_suffix(".new")
        temporary.write_bytes(orjson.dumps({name: asdict(image) for name, image in self._loaded.items()}))
        temporary.rename(self._index)
        return [image.name for image in found]

    def _read_archive(self, scratch: Path, archive: Path) -> list[Image]:
        if (scratch / "manifest.json").is_file():
            entries = orjson.loads((scratch / "manifest.json").read_bytes())
            rows = [
                (scratch / e["Config"], [scratch / layer for layer in e["Layers"]], e.get("RepoTags") or [])
                for e in entries
            ]
        elif (scratch / "index.json").is_file():
            manifests = orjson.loads((scratch / "index.json").read_bytes())["manifests"]
            rows = [row for manifest in manifests for row in self._read_oci(scratch, manifest)]
        else:
            raise Misuse(f"{archive}: neither manifest.json (docker save) nor index.json (OCI layout) is in it")
        images = [self._make(config, layers, normal(tag)) for config, layers, tags in rows for tag in tags]
        if not images:
            raise Misuse(f"{archive}: its images have no name; save them by name: docker save NAME:TAG")
        return images

    def _read_oci(
        self, scratch: Path, entry: Mapping[str, Any], names: tuple[str, ...] = ()
    ) -> list[tuple[Path, list[Path], list[str]]]:
        def blob(digest: str) -> Path:
            return scratch / "blobs" / digest.replace(":", "/")

        notes = entry.get("annotations", {})
        found = notes.get("io.containerd.image.name") or notes.get("org.opencontainers.image.ref.name")
        names = (found,) if found else names
        manifest = orjson.loads(blob(entry["digest"]).read_bytes())
        if "manifests" in manifest:
            machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
            ours = [m for m in manifest["manifests"] if m.get("platform", {}).get("architecture", machine) == machine]
            return [row for m in ours for row in self._read_oci(scratch, m, names)]
        return [
            (blob(manifest["config"]["digest"]), [blob(layer["digest"]) for layer in manifest["layers"]], list(names))
        ]

    def _make(self, config: Path, layers: list[Path], name: str) -> Image:
        raw = config.read_bytes()
        wishes = orjson.loads(raw).get("config") or {}
        lower = [self._unpack(layer) for layer in layers]
        return Image(
            name,
            "sha256:" + hashlib.sha256(raw).hexdigest(),
            tuple(f"{HOME}/images/{layer}" for layer in reversed(lower)),
            environment=dict(item.partition("=")[::2] for item in wishes.get("Env") or []),
            entrypoint=tuple(wishes.get("Entrypoint") or ()),
            command=tuple(wishes.get("Cmd") or ()),
            directory=wishes.get("WorkingDir") or "/",
            user=wishes.get("User") or "",
            size=sum(layer.stat().st_size for layer in layers),
        )

    def _unpack(self, layer: Path) -> str:
        """Unpack a layer once. -> its directory's name."""
        with layer.open("rb") as file:
            name = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        target = self.directory / name
        if not target.is_dir():
            scratch = Path(tempfile.mkdtemp(dir=self.directory, prefix="layer-"))
            try:
                with layer.open("rb") as file:
                    unpack_layer(file, scratch)
                scratch.chmod(0o755)
                scratch.rename(target)
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)
                raise
        return name


def unpack_layer(file: IO[bytes], target: Path) -> None:
    """A layer's tar into overlayfs' form: whiteouts become character devices 0:0, opaque markers an attribute."""
    with tarfile.open(fileobj=file) as tar:
        for member in tar:
            path = target / member.name.lstrip("/")
            if path.name == ".wh..wh..opq":
                path.parent.mkdir(parents=True, exist_ok=True)
                os.setxattr(path.parent, "trusted.overlay.opaque", b"y")
            elif path.name.startswith(".wh."):
                if not path.parent.resolve().is_relative_to(target.resolve()):
                    raise ValueError(f"{member.name} leads out of the image")
                path.parent.mkdir(parents=True, exist_ok=True)
                os.mknod(path.with_name(path.name.removeprefix(".wh.")), stat.S_IFCHR, 0)
            else:
                tar.extract(member, target, filter=_keep_modes)


def _keep_modes(member: tarfile.TarInfo, target: str) -> tarfile.TarInfo | None:
    """tarfile's own check that nothing leads out, but with owners and set-id bits as they are in the image."""
    checked = tarfile.tar_filter(member, target)
    return checked.replace(mode=member.mode, uid=member.uid, gid=member.gid, uname="", gname="", deep=False)
