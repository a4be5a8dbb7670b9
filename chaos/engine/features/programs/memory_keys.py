"""Runs on a node: finds the private keys in the memory of one container's processes.

`memory_keys POD_UID CONTAINER_ID`, in a privileged pod with hostPID. Prints a JSON list of the
SHA-256 of the public half of each PEM private key that /proc/PID/mem holds: it names a key and does not give it away.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from chaos.inpod.process_helper import processes
from chaos.mesh.ca import fingerprint

_KEY: Final = re.compile(
    rb"-----BEGIN (?:EC )?PRIVATE KEY-----[A-Za-z0-9+/=\r\n]{40,4000}?-----END (?:EC )?PRIVATE KEY-----"
)
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\r\n]{40,7000}?-----END CERTIFICATE-----")
_PIECE: Final = 4 << 20
_OVERLAP: Final = 8192  # a key, or a certificate, lies whole in one of two pieces


def readable(maps: str) -> Iterator[tuple[int, int]]:
    """Yield begin and end of the writable private mappings in the text of /proc/PID/maps: where a process keeps data
    that it was sent.
    """
    for line in maps.splitlines():
        span, flags, *_ = line.split(maxsplit=2)
        if flags.startswith("rw"):
            begin, _, end = span.partition("-")
            yield int(begin, 16), int(end, 16)


def pem_keys(pid: int, proc: Path = Path("/proc")) -> set[bytes]:
    """Return every PEM private key in the process's memory."""
    return _found_in_memory(pid, _KEY, proc)


def pem_certificates(pid: int, proc: Path = Path("/proc")) -> set[bytes]:
    """Return every PEM certificate in the process's memory."""
    return _found_in_memory(pid, _CERTIFICATE, proc)


def _found_in_memory(pid: int, pattern: re.Pattern[bytes], proc: Path) -> set[bytes]:
    found: set[bytes] = set()
    with (proc / str(pid) / "mem").open("rb", buffering=0) as memory:
        for begin, end in readable((proc / str(pid) / "maps").read_text()):
            for at in range(begin, end, _PIECE):
                try:
                    memory.seek(at)
                    piece = memory.read(min(_PIECE + _OVERLAP, end - at))
                except (OSError, ValueError):
                    break  # unmapped meanwhile, or not to be read at all ([vvar])
                found.update(match[0] for match in pattern.finditer(piece or b""))
    return found


def public_half(pem: bytes) -> str:
    """Return the SHA-256 of the public key's SubjectPublicKeyInfo in hex; empty when the bytes are no key any more."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except ValueError:
        return ""
    if not isinstance(key, EllipticCurvePrivateKey):
        return "another kind of key"
    return fingerprint(key.public_key())


def main() -> int:
    pids = processes(sys.argv[1], sys.argv[2])
    if not pids:
        print(f"no process of pod {sys.argv[1]}, container {sys.argv[2]}", file=sys.stderr)
        return 3
    print(json.dumps(sorted({name for pid in pids for pem in pem_keys(pid) if (name := public_half(pem))})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
