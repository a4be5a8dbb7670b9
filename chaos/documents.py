"""Reads files that users give within limits, or refuses them in one sentence.

One door for every YAML, JSON and text file that was not written by this process a moment ago: manifests, targets,
policies, experiments, kubeconfigs, the files of a saved run. Whatever such a file holds, the answer is a document or
Misuse; it is never another error, and never a wait: pipes, sockets and devices are not opened for reading.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO, Final

import yaml

from chaos.errors import Misuse

MOST_BYTES: Final = 64 << 20  # of a JSON file: a report of every trial in every mode has two million
MOST_YAML_BYTES: Final = 4 << 20  # a YAML parser takes a second or two a million
DEPTH: Final = 100
MOST_VALUES: Final = 2_000_000  # with what aliases repeat, which a few lines make as many as they like
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe: write what comes out of it into a file first"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
Hook = Callable[[list[tuple[str, Any]]], Any]


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading, never waiting for a pipe's other end; raises Misuse that names the file."""
    try:
        # Looked at by its descriptor: nobody changes it in between.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError as error:
        raise Misuse(f"{shown(path)}: no such file") from error
    except (OSError, ValueError) as error:
        # ENXIO: a socket, or a device without a driver
        said = error.strerror if isinstance(error, OSError) and error.errno != errno.ENXIO else "not a file"
        raise Misuse(f"{shown(path)}: cannot be read: {said or error}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = next((text for is_it, text in _KINDS if is_it(mode)), "not a file")
        raise Misuse(f"{shown(path)}: cannot be read: it is {kind}")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """Read a regular file of at most `most` bytes; raises Misuse that names the file."""
    with open_file(path) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise Misuse(f"{shown(path)}: cannot be read: {error.strerror or error}") from error
    if len(content) > most:
        raise Misuse(f"{shown(path)}: has more than {most >> 20} MiB, which no such file has")
    return content


def read_text(path: Path, *, most: int = MOST_BYTES) -> str:
    """Read a UTF-8 file, with or without a byte order mark; raises Misuse that names the file."""
    return text_of(read_bytes(path, most=most), source=shown(path))


def read_json(path: Path, *, hook: Hook | None = None, nan: bool = False) -> Any:
    """Read a JSON file; raises Misuse that names the file. `hook` and `nan` are those of `parse_json`."""
    return parse_json(read_text(path), source=shown(path), hook=hook, nan=nan)


def read_yaml(path: Path, *, loader: Any = _LOADER) -> Any:
    """Read a YAML file with one document; raises Misuse that names the file and the line."""
    return parse_yaml(read_text(path, most=MOST_YAML_BYTES), source=shown(path), loader=loader)


def text_of(content: bytes, *, source: str) -> str:
    """Decode bytes as UTF-8; raises Misuse."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Misuse(f"{source}: not a text in UTF-8: byte {error.start + 1} is {content[error.start]:#04x}") from error


def parse_json(text: str | bytes, *, source: str, hook: Hook | None = None, nan: bool = False) -> Any:
    """Parse a JSON text; raises Misuse.

    Args:
        hook: makes an object of its pairs.
        nan: None stands for NaN and infinity, which JSON does not know; without it they are refused.
    """
    try:
        document = json.loads(text, object_pairs_hook=hook, parse_constant=_nothing if nan else _no_number)
    except RecursionError as error:
        raise Misuse(f"{source}: nested deeper than {DEPTH} levels") from error
    except ValueError as error:
        raise Misuse(f"{source}: not JSON: {_line(error)}") from error
    return _checked(document, source)


def parse_yaml(text: str, *, source: str, loader: Any = _LOADER) -> Any:
    """Parse a YAML text with one document, None for an empty one; raises Misuse."""
    documents = parse_yaml_all(text, source=source, loader=loader)
    if len(documents) > 1:
        raise Misuse(f"{source}: holds {len(documents)} documents, and should hold one")
    return documents[0] if documents else None


def parse_yaml_all(text: str, *, source: str, loader: Any = _LOADER) -> list[Any]:
    """Parse every document of a YAML text; raises Misuse."""
    try:
        _refuse_bomb(text, source, loader)
        documents = list(yaml.load_all(text, Loader=loader))
    except (yaml.YAMLError, ValueError) as error:
        raise Misuse(f"{source}: not YAML: {_line(error)}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # A value that its tag does not fit (`!!bool maybe`): the parser's constructors say no more than that.
        raise Misuse(f"{source}: not YAML: a value is not what its tag says ({type(error).__name__})") from error
    return [_checked(document, source) for document in documents]


@contextmanager
def understood(source: str) -> Iterator[None]:
    """Turn errors in the block into Misuse: the block interprets a document, so the document is at fault.

    For content whose shape is too free to be held against a schema first: manifests, which are Kubernetes' to judge,
    and what trials note for their reports.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise Misuse(f"{source}: cannot be understood: {type(error).__name__}: {_line(error)}") from error


def shown(path: Path) -> str:
    """Return a path as a message can hold it, whatever bytes its name has."""
    return "".join(sign if sign.isprintable() else "?" for sign in os.fsencode(path).decode("utf-8", "replace"))


def _nothing(_: str) -> None:
    return None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _refuse_bomb(text: str, source: str, loader: Any) -> None:
    """Raise Misuse for a YAML text that would exhaust the process: nested too deeply for the C library's composer, or
    expanded too far by aliases (which merge keys multiply).
    """
    weights: list[int] = [0]  # of the collections that are open, outermost first: values, with what aliases repeat
    names: list[str | None] = []  # their anchors
    anchors: dict[str, int] = {}
    for event in yaml.parse(text, Loader=loader):
        match event:
            case yaml.CollectionStartEvent():
                weights.append(1)
                names.append(event.anchor)
                if len(names) > DEPTH:
                    raise Misuse(f"{source}: nested deeper than {DEPTH} levels")
            case yaml.CollectionEndEvent():
                name, weight = names.pop(), weights.pop()
                if name is not None:
                    anchors[name] = weight
                weights[-1] += weight
            case yaml.ScalarEvent():
                if event.anchor is not None:
                    anchors[event.anchor] = 1
                weights[-1] += 1
            case yaml.AliasEvent():
                if event.anchor in names:
                    raise Misuse(f"{source}: the value {event.anchor!r} holds itself")
                weights[-1] += anchors.get(event.anchor or "", 1)
        if weights[-1] > MOST_VALUES:
            raise Misuse(f"{source}: stands for more than {MOST_VALUES:,} values, which no such file does")


def _checked(document: Any, source: str) -> Any:
    """Return the document; raises Misuse when it is nested too deeply, has too many values, text that cannot be
    encoded, or values that JSON lacks (a set, bytes, infinity). Dates become their text.
    """
    left = MOST_VALUES

    def look(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Misuse(f"{source}: holds more than {MOST_VALUES:,} values, which no such file does")
        match value:
            case str():
                _writable(value, source)
            case None | bool():
                pass
            case int() if value.bit_length() > 64:
                raise Misuse(f"{source}: holds a number of {value.bit_length()} bits")
            case float() if not math.isfinite(value):
                raise Misuse(f"{source}: {value} is no number that could be used")
            case int() | float():
                pass
            case dict() | list() if depth > DEPTH:
                raise Misuse(f"{source}: nested deeper than {DEPTH} levels")
            case dict():
                for key, inner in value.items():
                    _key(key, source)
                    value[key] = look(inner, depth + 1)
            case list():
                value[:] = [look(one, depth + 1) for one in value]
            case date():
                return value.isoformat()
            case _:
                raise Misuse(f"{source}: holds a {type(value).__name__}, which no such file does")
        return value

    return look(document, 1)


def _key(key: Any, source: str) -> None:
    if isinstance(key, str):
        _writable(key, source)
    elif not (key is None or isinstance(key, (bool, int, float))):
        raise Misuse(f"{source}: a key is a {type(key).__name__}, and should be a text")


def _writable(text: str, source: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Misuse(f"{source}: holds half a character ({text[error.start]!a}), which is no text") from error
