"""Archives of strangers: whatever they hold, the machine beside the image's own directory is as it was."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from chaos.embedded.kubelet.archives import HOPS, OPAQUE_ATTRIBUTE, Budget
from chaos.embedded.kubelet.images import Images
from chaos.errors import Misuse

pytestmark = pytest.mark.privileged
SECRET = b"the machine's own"
Row = tuple[str, dict[str, Any]]  # a member: its name, and what differs from an empty file


def layer(*rows: Row) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, more in rows:
            info = tarfile.TarInfo(name)
            data: bytes = more.get("data", b"")
            info.size, info.mode = len(data), 0o644
            for key, value in more.items():
                if key != "data":
                    setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def file(name: str, data: bytes = b"x", **more: Any) -> Row:
    return name, {"data": data, **more}


def link(name: str, target: str) -> Row:
    return name, {"type": tarfile.SYMTYPE, "linkname": target}


def hard(name: str, target: str) -> Row:
    return name, {"type": tarfile.LNKTYPE, "linkname": target}


def directory(name: str, **more: Any) -> Row:
    return name, {"type": tarfile.DIRTYPE, "mode": 0o755, **more}


def device(name: str, kind: bytes, major: int, minor: int) -> Row:
    return name, {"type": kind, "devmajor": major, "devminor": minor, "mode": 0o666}


def saved(path: Path, *layers: bytes, manifest: Any = None, config: Any = None, extra: tuple[Row, ...] = ()) -> Path:
    """A `docker save` archive of these layers."""
    names = [f"{index}/layer.tar" for index in range(len(layers))]
    if manifest is None:
        manifest = [{"Config": "config.json", "RepoTags": ["stranger:1"], "Layers": names}]
    parts: list[Row] = [
        ("manifest.json", {"data": orjson.dumps(manifest)}),
        ("config.json", {"data": orjson.dumps({"config": {}} if config is None else config)}),
        *((name, {"data": data}) for name, data in zip(names, layers, strict=True)),
        *extra,
    ]
    path.write_bytes(layer(*parts))
    return path


@pytest.fixture
def place(tmp_path: Path) -> tuple[Images, Path, Path]:
    """(a cluster's images, a directory of the machine, where archives are made)."""
    machine = tmp_path / "machine"
    (machine / "sub").mkdir(parents=True)
    (machine / "file").write_bytes(SECRET)
    return Images(tmp_path / "cluster" / "images"), machine, tmp_path


def untouched(machine: Path) -> bool:
    everything = {p.relative_to(machine).as_posix() for p in machine.rglob("*")}
    try:
        os.getxattr(machine, OPAQUE_ATTRIBUTE)
    except OSError:
        opaque = False
    else:
        opaque = True
    whole = (machine / "file").read_bytes() == SECRET and (machine / "file").stat().st_nlink == 1
    return everything == {"sub", "file"} and whole and not opaque


OUT = "../../../machine"
# name -> (members with M for the machine's directory, whether the layer is refused; else it is unpacked beneath)
HOSTILE: dict[str, tuple[Callable[[str], tuple[Row, ...]], bool]] = {
    "absolute file": (lambda m: (file(f"{m}/new"),), False),
    "file upwards": (lambda m: (file(f"{OUT}/new"),), True),
    "file upwards in the middle": (lambda m: (file(f"a/../{OUT}/new"),), True),
    "file through an absolute link": (lambda m: (link("l", m), file("l/new")), True),
    "file through a relative link": (lambda m: (link("l", OUT), file("l/new")), True),
    "file over a link to a file": (lambda m: (link("l", f"{m}/file"), file("l", b"changed")), False),
    "file through a chain of links": (lambda m: (link("a", m), link("b", "a"), link("c", "b"), file("c/new")), True),
    "file through a link in a directory": (
        lambda m: (directory("d"), link("d/l", "../" + OUT), file("d/l/new")), True),
    "file through a link, by a path of dots and slashes": (lambda m: (link("l", m), file(".//l//./new")), True),
    "link whose target comes in a later header": (
        lambda m: (("l", {"type": tarfile.SYMTYPE, "pax_headers": {"linkpath": m}}), file("l/new")), True),
    "directory of a link's target": (lambda m: (link("d", f"{m}/sub"), directory("d/", mode=0o777)), False),
    "member of no known type": (lambda m: (link("l", m), ("l/new", {"type": b"Z"})), True),
    "contiguous file through a link": (lambda m: (link("l", m), ("l/new", {"type": tarfile.CONTTYPE})), True),
    "whiteout of a link": (lambda m: (link("l", f"{m}/file"), file(".wh.l")), False),
    "directory replaced by a link": (lambda m: (directory("d"), link("d", m), file("d/new")), True),
    "directory over a link": (lambda m: (link("d", m), directory("d", mode=0o777), file("d/new")), False),
    "long path that resolves to nothing (CVE-2025-4517)": (
        lambda m: (
            *(row for i in range(12) for row in (directory("/".join(["d" * 240] * (i + 1))),
                                                 link("/".join(["d" * 240] * i + ["s"]), "d" * 240))),
            link("/".join(["s"] * 12 + ["l" * 200]), "../" * 12),
            link("escape", "/".join(["s"] * 12 + ["l" * 200]) + f"/{OUT}"),
            file("escape/new"),
        ),
        True,
    ),
    "mode of a link's target (CVE-2025-4330)": (lambda m: (link("l", f"{m}/file"), hard("h", "l")), True),
    "hard link to an absolute file": (lambda m: (hard("h", f"{m}/file"), file("h", b"changed")), True),
    "hard link upwards": (lambda m: (hard("h", f"{OUT}/file"), file("h", b"changed")), True),
    "hard link through a link": (lambda m: (link("l", m), hard("h", "l/file"), file("h", b"changed")), True),
    "hard link to a link, then written": (
        lambda m: (link("l", f"{m}/file"), hard("h", "l"), file("h", b"changed")), True),
    "hard link to a directory": (lambda m: (directory("d"), hard("h", "d")), True),
    "hard link to nothing": (lambda m: (hard("h", "nothing"),), True),
    "hard link to itself": (lambda m: (file("h"), hard("h", "h")), True),
    "hard link to the root": (lambda m: (hard("h", "/"),), True),
    "whiteout upwards": (lambda m: (file(f"{OUT}/.wh.file"),), True),
    "whiteout through a link": (lambda m: (link("l", m), file("l/.wh.file")), True),
    "whiteout of the parent": (lambda m: (file(".wh..."),), True),
    "whiteout of two dots": (lambda m: (file("d/.wh..."[:-1]),), True),
    "whiteout of nothing": (lambda m: (file(".wh."),), True),
    "opaque marker upwards": (lambda m: (file(f"{OUT}/.wh..wh..opq"),), True),
    "opaque marker through a link": (lambda m: (link("l", m), file("l/.wh..wh..opq")), True),
    "block device": (lambda m: (device("disk", tarfile.BLKTYPE, 254, 0),), True),
    "character device": (lambda m: (device("mem", tarfile.CHRTYPE, 1, 1),), True),
    "a whiteout as a device": (lambda m: (device("gone", tarfile.CHRTYPE, 0, 0),), True),
    "block device in dev": (lambda m: (device("dev/sda", tarfile.BLKTYPE, 8, 0),), False),
    "device through a link to dev": (lambda m: (link("dev", m), device("dev/sda", tarfile.BLKTYPE, 8, 0)), True),
    "fifo": (lambda m: (("f", {"type": tarfile.FIFOTYPE}),), False),
    "file over a fifo": (lambda m: (("f", {"type": tarfile.FIFOTYPE}), file("f")), False),
    "owner that is none": (lambda m: (file("f", uid=2**40),), True),
    "a name with a NUL": (lambda m: (("f", {"pax_headers": {"path": f"{OUT}\0x"}}),), True),
    "a name too long": (lambda m: (file("n" * 300),), True),
    "a path that no program could open": (lambda m: (file("d/" * 2050 + "f"),), True),
    "a path of three hundred directories": (lambda m: (file("d/" * 300 + "f"),), False),
    "whiteout as a directory": (lambda m: (directory(".wh.x"), file(".wh.x/y")), False),
    "whiteout as a link": (lambda m: (link(".wh.l", m), file("l/new")), True),
    "hard link to a whiteout": (lambda m: (file(".wh.x"), hard("y", "x")), True),
    "hard link to a fifo": (lambda m: (("f", {"type": tarfile.FIFOTYPE}), hard("g", "f")), True),
    "a chain of hard links": (lambda m: (file("0"), *(hard(str(i + 1), str(i)) for i in range(300))), False),
    "one name as a file, a directory, a link and a hard link": (
        lambda m: (file("h"), file("f"), directory("f"), file("f/g"), link("f", m), hard("f", "h")), False),
    "name of a sparse file upwards": (
        lambda m: (("f", {"data": b"1\n0\n1\n".ljust(512, b"\0") + b"x", "pax_headers": {
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1",
            "GNU.sparse.name": f"{OUT}/new"}}),), True),
    "attributes of the overlay": (
        lambda m: (("f", {"pax_headers": {"SCHILY.xattr.trusted.overlay.redirect": f"{m}/file"}}),), False),
    "no name": (lambda m: (file("./"),), False),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_layer_stays_beneath_its_image_or_is_refused_whole(
    place: tuple[Images, Path, Path], name: str
) -> None:
    images, machine, tmp = place
    rows, refused = HOSTILE[name]
    archive = saved(tmp / "image.tar", layer(*rows(str(machine))))
    if refused:
        with pytest.raises(Misuse) as caught:
            images.load(archive)
        assert str(archive) in str(caught.value)
        assert list(images.directory.iterdir()) == []
    else:
        assert images.load(archive) == ["docker.io/library/stranger:1"]
    for path in images.directory.rglob("*"):
        assert not stat.S_ISBLK(path.lstat().st_mode)
        assert not stat.S_ISCHR(path.lstat().st_mode) or path.lstat().st_rdev == 0
    assert untouched(machine)


@pytest.mark.parametrize("way", ["Config", "Layers"])
@pytest.mark.parametrize(
    "path", ["M/file", "../../../../machine/file", "link", "hard", "loop", "", ".", "nothing", 7, None]
)
def test_a_manifest_names_members_and_nothing_else(place: tuple[Images, Path, Path], way: str, path: Any) -> None:
    images, machine, tmp = place
    if isinstance(path, str):
        path = path.replace("M", str(machine))
    manifest = [{"Config": "config.json", "RepoTags": ["x"], "Layers": [], way: path if way == "Config" else [path]}]
    extra = (link("link", f"{machine}/file"), hard("hard", f"{machine}/file"), link("loop", "loop"))
    with pytest.raises(Misuse):
        images.load(saved(tmp / "image.tar", manifest=manifest, extra=extra))
    assert list(images.directory.iterdir()) == []
    assert untouched(machine)


def test_layers_that_are_links_to_each_other_are_what_docker_saves(place: tuple[Images, Path, Path]) -> None:
    images, _, tmp = place
    manifest = [{"Config": "config.json", "RepoTags": ["x"], "Layers": ["0/layer.tar", "1/layer.tar"]}]
    extra = (link("1/layer.tar", "../0/layer.tar"),)
    assert images.load(saved(tmp / "image.tar", layer(file("a")), manifest=manifest, extra=extra))


# What a manifest may name an image; nothing else gets into the list of images.
NO_NAMES: list[Any] = [
    "", " ", "x y", "x\n", "x\0", "../../x", "/", ":", "a:b:c", "@sha256:x", "x@sha256:", "X/Y:Z", "-x", "x" * 256,
    "x:" + "t" * 129, "\u0661", None, 7, True, {"a": 1}, ["x"],
]  # fmt: skip


@pytest.mark.parametrize("name", NO_NAMES)
def test_an_image_has_a_name_that_a_pod_could_write(place: tuple[Images, Path, Path], name: Any) -> None:
    images, _, tmp = place
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": []}]
    with pytest.raises(Misuse, match="is no name of an image"):
        images.load(saved(tmp / "image.tar", manifest=manifest))
    assert list(images.directory.iterdir()) == []


def many(entries: int, names: int, layers: int) -> list[Any]:
    """A manifest that refers to the same members over and over."""
    tags = [f"x{index}" for index in range(names)]
    return [{"Config": "config.json", "RepoTags": tags, "Layers": ["0/layer.tar"] * layers}] * entries


@pytest.mark.parametrize(("entries", "names", "layers"), [(1, 1001, 1), (1001, 1, 1), (1, 1, 128), (1, 1, 500_000)])
def test_what_a_manifest_refers_to_is_bounded(
    place: tuple[Images, Path, Path], entries: int, names: int, layers: int
) -> None:
    images, _, tmp = place
    archive = saved(tmp / "image.tar", layer(file("a")), manifest=many(entries, names, layers))
    with pytest.raises(Misuse, match="at most"):
        images.load(archive)
    assert list(images.directory.iterdir()) == []


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "nothing"])
def test_what_is_no_file_is_said_at_once(place: tuple[Images, Path, Path], kind: str) -> None:
    images, _, tmp = place
    path = tmp / "image.tar"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(Misuse, match=r"image\.tar: (cannot be read: it is|no such file)"):
        images.load(path)


CONFIGS: list[Any] = [
    [], "x", 7, {"config": {"Env": "A=B"}}, {"config": {"Env": [1]}}, {"config": {"Env": ["A=\0"]}},
    {"config": {"Cmd": {"a": "b"}}}, {"config": {"Entrypoint": [None]}}, {"config": {"WorkingDir": 7}},
    {"config": {"User": ["x"]}},
    {"config": {"WorkingDir": "/\0"}},
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_of_other_types_is_refused(place: tuple[Images, Path, Path], config: Any) -> None:
    images, _, tmp = place
    with pytest.raises(Misuse):
        images.load(saved(tmp / "image.tar", layer(file("a")), config=config))
    assert list(images.directory.iterdir()) == []


def oci(path: Path, blobs: dict[str, bytes], index: Any) -> Path:
    rows = [("index.json", {"data": orjson.dumps(index)}), *((f"blobs/{n}", {"data": d}) for n, d in blobs.items())]
    path.write_bytes(layer(*rows))
    return path


@pytest.mark.parametrize(
    "digest", ["sha256:../../../machine/file", "../../machine/file", "/etc/passwd", "sha256:" + "0" * 64, 7, "sha256:x"]
)
def test_an_index_names_digests(place: tuple[Images, Path, Path], digest: Any) -> None:
    images, machine, tmp = place
    with pytest.raises(Misuse):
        images.load(oci(tmp / "i.tar", {}, {"manifests": [{"digest": digest}]}))
    assert untouched(machine)


def of_digests(*contents: bytes) -> tuple[dict[str, bytes], list[str]]:
    """(blobs by their true digests, these digests)."""
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    return {f"sha256/{d}": c for d, c in zip(digests, contents, strict=True)}, [f"sha256:{d}" for d in digests]


def test_an_index_that_holds_itself_and_a_layer_of_another_digest_are_refused(place: tuple[Images, Path, Path]) -> None:
    images, _, tmp = place
    name = "0" * 64
    loop = orjson.dumps({"manifests": [{"digest": f"sha256:{name}"}]})
    with pytest.raises(Misuse, match="digest"):
        images.load(oci(tmp / "i.tar", {f"sha256/{name}": loop}, orjson.loads(loop)))
    blobs, (config, content) = of_digests(b"{}", layer(file("a")))

    def index_of(layer_digest: str) -> Any:
        more, (manifest,) = of_digests(
            orjson.dumps({"config": {"digest": config}, "layers": [{"digest": layer_digest}]})
        )
        blobs.update(more)
        annotations = {"org.opencontainers.image.ref.name": "x"}
        return {"manifests": [{"digest": manifest, "annotations": annotations}]}

    blobs["sha256/" + "2" * 64] = layer(file("a"))
    with pytest.raises(Misuse, match="digest"):
        images.load(oci(tmp / "i.tar", blobs, index_of("sha256:" + "2" * 64)))
    assert images.load(oci(tmp / "i.tar", blobs, index_of(content)))


@pytest.mark.parametrize("lie", ["manifest", "configuration"])
def test_a_document_of_another_digest_is_refused(place: tuple[Images, Path, Path], lie: str) -> None:
    images, _, tmp = place
    blobs, (config,) = of_digests(b'{"config": {}}')
    manifest = orjson.dumps({"config": {"digest": config}, "layers": []})
    more, (whole,) = of_digests(manifest)
    blobs |= more
    index = {"manifests": [{"digest": whole, "annotations": {"org.opencontainers.image.ref.name": "x"}}]}
    assert images.load(oci(tmp / "i.tar", blobs, index))
    blobs[(whole if lie == "manifest" else config).replace(":", "/")] += b" "
    with pytest.raises(Misuse, match="digest"):
        images.load(oci(tmp / "i.tar", blobs, index))


@pytest.mark.parametrize(("wide", "deep", "why"), [(300, 2, "members"), (2, HOPS, "nested too deeply")])
def test_indexes_that_multiply_or_nest_are_refused_in_time(
    place: tuple[Images, Path, Path], wide: int, deep: int, why: str
) -> None:
    images, _, tmp = place
    blobs, (config,) = of_digests(b"{}")
    more, (inner,) = of_digests(orjson.dumps({"config": {"digest": config}, "layers": []}))
    blobs |= more
    for _ in range(deep):
        more, (inner,) = of_digests(orjson.dumps({"manifests": [{"digest": inner}] * wide}))
        blobs |= more
    annotations = {"org.opencontainers.image.ref.name": "x"}
    index = {"manifests": [{"digest": inner, "annotations": annotations}] * wide}
    with pytest.raises(Misuse, match=why):
        images.load(oci(tmp / "i.tar", blobs, index), budget=Budget(64 << 20, members=20_000))


SMALL = 1 << 20
ZEROS = b"\0" * (4 * SMALL)
BOMBS: dict[str, Callable[[Path], Path]] = {
    "one large file": lambda p: saved(p, layer(file("a", ZEROS))),
    "gzip": lambda p: saved(p, gzip.compress(layer(file("a", ZEROS)))),
    "bzip2": lambda p: saved(p, bz2.compress(layer(file("a", ZEROS)))),
    "xz": lambda p: saved(p, lzma.compress(layer(file("a", ZEROS)))),
    "many small files": lambda p: saved(p, layer(*(file(f"f{i}", b"") for i in range(3000)))),
    "many directories in few names": lambda p: saved(p, layer(*(file(f"{i}/" + "d/" * 300) for i in range(20)))),
    "many layers": lambda p: saved(p, *(layer(file("a", bytes([i]) * (SMALL // 4))) for i in range(8))),
    "a long extended header": lambda p: saved(
        p, gzip.compress(layer(("a", {"pax_headers": {"comment": "x" * (20 << 20)}})))
    ),
    "sparse": lambda p: saved(p, layer(("a", {"pax_headers": {
        "GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40), "GNU.sparse.numblocks": "1"}}))),
    "size that is a lie": lambda p: saved(p, _lie()),
}  # fmt: skip


def _lie() -> bytes:
    info = tarfile.TarInfo("a")
    info.size = 1 << 40
    return info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_its_bound(place: tuple[Images, Path, Path], name: str, compressed: bool) -> None:
    images, _, tmp = place
    archive = BOMBS[name](tmp / "image.tar")
    if compressed:
        archive.write_bytes(gzip.compress(archive.read_bytes()))
    with pytest.raises(Misuse):
        images.load(archive, budget=Budget(SMALL, members=2000))
    assert list(images.directory.iterdir()) == []


@pytest.mark.parametrize("cut", [1, 100, 600, 1500])
@pytest.mark.parametrize("how", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_an_archive_that_ends_too_early_is_refused(
    place: tuple[Images, Path, Path], how: Callable[[bytes], bytes], cut: int
) -> None:
    images, _, tmp = place
    archive = saved(tmp / "image.tar", layer(file("a", b"y" * 3000)))
    data = how(archive.read_bytes())
    archive.write_bytes(data[: min(cut, len(data) // 2)])
    with pytest.raises(Misuse):
        images.load(archive)


def test_an_honest_layer_keeps_owners_modes_links_and_whiteouts(place: tuple[Images, Path, Path]) -> None:
    images, _, tmp = place
    archive = saved(
        tmp / "image.tar",
        gzip.compress(
            layer(
                directory("usr/bin"),
                file("usr/bin/su", b"program", mode=0o4755, uid=0, gid=5, mtime=1000),
                hard("usr/bin/su2", "./usr/bin/su"),
                link("bin", "usr/bin"),
                file("etc/.wh.gone", b""),
                file("opt/.wh..wh..opq", b""),
                directory("home/u", mode=0o700, uid=1000, gid=1000),
            )
        ),
    )
    images.load(archive)
    (image,) = [path for path in images.directory.iterdir() if path.is_dir()]
    program = (image / "usr/bin/su").stat()
    assert (program.st_mode & 0o7777, program.st_gid, program.st_nlink, program.st_mtime) == (0o4755, 5, 2, 1000)
    assert os.readlink(image / "bin") == "usr/bin"
    gone = (image / "etc/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(image / "opt", OPAQUE_ATTRIBUTE) == b"y"
    assert ((image / "home/u").stat().st_uid, (image / "home/u").stat().st_mode & 0o777) == (1000, 0o700)
