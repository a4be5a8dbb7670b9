"""What a loaded call over TCP, or over an application's own TLS, sends and awaits: the words of a target file and of
`load.add`.

Of bytes nobody knows where an answer ends, so the call says it. Pure, but for the file of trust anchors.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chaos.documents import read_text
from chaos.errors import Misuse
from chaos.fields import Fields

WORDS: Final = ("send", "send-base64", "answer", "keep")
TLS_WORDS: Final = ("ca", "sni", "insecure")
ANY, CONNECTED = "any", "connected"
# A source port rests for a minute after its connection, and there are 28,232 of them to one server's port.
MOST_CONNECTIONS: Final = 400.0  # a second
_PEM: Final = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request of bytes.

    Attributes:
        send: at the beginning of each; b"": nothing, where the server speaks first, or the connection is all.
        answer: `any` (the first bytes that come), `connected` (the connection, with its handshake), or their number.
        keep: connections for the next request, instead of a new one for each.
        ca: trust anchors in PEM; "": those of the loader's image. sni: the server's name in the handshake; "": the host
            that is called. insecure: any certificate is believed.
    """

    send: bytes = b""
    answer: str = CONNECTED
    keep: bool = False
    ca: str = ""
    sni: str = ""
    insecure: bool = False

    def order(self, *, tls: bool) -> dict[str, Any]:
        """Return it as a loader takes it."""
        plain = {
            "protocol": "tls" if tls else "plain",
            "send": b64encode(self.send).decode(),
            "answer": self.answer,
            "new_connections": not self.keep,
        }
        return plain | ({"ca": self.ca, "sni": self.sni, "insecure": self.insecure} if tls else {})


NOTHING_SENT: Final = Exchange()


def parse_exchange(entry: Fields, *, tls: bool, rate: float, folder: Path) -> Exchange:
    """Parse a call's words; problems go to the entry. Relative paths are of `folder`."""
    send = _sent(entry)
    answer = _answer(entry, ANY if send else CONNECTED)
    keep = entry.flag("keep")
    if keep and not answer.isdigit():
        entry.wrong("keep", f"is true, and answer is {answer}: where one ends is not known: say its number of bytes")
    if not keep and rate > MOST_CONNECTIONS:
        entry.wrong(
            "rate",
            f"is {rate:g}: a new connection for each request takes a source port that rests for a minute: at most "
            f"{MOST_CONNECTIONS:g}, or keep them",
        )
    if not tls:
        return Exchange(send, answer, keep)
    ca, insecure = _anchors(entry, folder), entry.flag("insecure")
    if ca and insecure:
        entry.wrong("insecure", "is true beside ca: no certificate would be held against it")
    return Exchange(send, answer, keep, ca, entry.text("sni", default=""), insecure)


def _sent(entry: Fields) -> bytes:
    encoded, send = entry.values.get("send-base64"), entry.values.get("send", b"")
    if encoded is not None:
        if send:
            entry.wrong("send-base64", "is given beside send: one of them")
        try:
            return b64decode(str(encoded), validate=True)
        except ValueError:
            entry.wrong("send-base64", f"is {encoded!r}, and should be base64")
            return b""
    if isinstance(send, str):
        return send.encode()
    if isinstance(send, bytes):
        return send
    entry.wrong("send", f"is {send!r}, and should be a text: of other bytes say send-base64")
    return b""


def _answer(entry: Fields, default: str) -> str:
    value = entry.values.get("answer", default)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return str(value)
    if value not in (ANY, CONNECTED):
        entry.wrong("answer", f"is {value!r}, and should be {ANY}, {CONNECTED} or a number of bytes")
        return default
    if value == CONNECTED and (entry.values.get("send") or entry.values.get("send-base64")):
        entry.wrong("answer", f"is {CONNECTED}, and send is given: what is sent, nobody would await an answer to")
    return str(value)


def _anchors(entry: Fields, folder: Path) -> str:
    """Return the certificates of `ca`: a file, or themselves."""
    said = entry.text("ca", default="")
    if not said:
        return ""
    try:
        text = said if _PEM in said else read_text(folder / said)
    except Misuse as error:
        entry.wrong("ca", f"names {error}")
        return ""
    import ssl  # slow to import, and only here of use

    try:
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError):
        entry.wrong("ca", f"is {'given' if _PEM in said else said}, and holds no certificate in PEM that can be read")
        return ""
    return text
