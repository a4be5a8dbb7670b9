"""Explains a flow that does not become healthy: how its requests ended, and what that usually means. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from chaos.history.words import SAID_OF_HANDSHAKE

_WAYS: Final = 4  # of ending that are shown
# How a request ended -> what it is usually a sign of, where no proxy says more.
_SIGNS: Final[Mapping[str, str]] = {
    "REFUSED": "nothing listens there, or the proxy that should take the connection is not up",
    "NO_ROUTE": "the address is not reached from the client's node: a packet filter, or an address that is gone",
    "CONNECT_TIMEOUT": (
        "packets are dropped on the way: a NetworkPolicy, or a policy of the mesh; or, over TLS, a server that speaks "
        "none there, and waits"
    ),
    "DNS": "the name is not known there: is `reach` right, and does the client's namespace see it?",
    "TLS": "the handshake between proxies is refused: an identity or a trust anchor that the other side does not take",
    "RESET": (
        "the other side closed it: mutual TLS is demanded of a client that the mesh does not carry, a policy denies "
        "it, or the server's port is not what the call speaks (opaque ports, protocol detection)"
    ),
    "TIMEOUT": (
        "no answer in time: a policy that drops, or protocol detection that waits for a client whose server speaks "
        "first (an opaque port)"
    ),
    "WRONG_BODY": "the answer was cut short, is another request's, or has more bytes than was said",
    "SHED": "answers come too slowly for the rate: more requests were under way than the loader may have",
    "STATUS 403": "a policy of the mesh denies it",
    "STATUS 404": "the path is not the server's: is `path` right?",
    "STATUS 426": "the server does not take HTTP/1.1 on that port: is `protocol` right?",
    "STATUS 502": "a proxy could not speak to the server: is the port's protocol what the mesh takes it for?",
    "STATUS 503": "a proxy has no endpoint for it: the server is not ready, or not enrolled as its callers take it",
    "STATUS 504": "a proxy got no answer from the server in time",
}
_OWN_HANDSHAKE: Final = (
    "likely: the server's certificate is not believed, or it speaks no TLS there: are `ca`, `sni` and the port right? "
    "`insecure` believes any"
)


def explain_stuck(before: Mapping[str, Any], after: Mapping[str, Any], *, headers: Sequence[str] = ()) -> str:
    """Describe how the requests of a flow ended between two readings of its counters, and the likely cause.

    Args:
        before, after: as a loader's state has them: `due`, `ok`, `ends`, `said`.
        headers: beginnings of the header lines by which the mesh's proxies show themselves.
    """
    due, ok = (int(after[name]) - int(before[name]) for name in ("due", "ok"))
    ends = {
        how: count - before.get("ends", {}).get(how, 0)
        for how, count in after.get("ends", {}).items()
        if count > before.get("ends", {}).get(how, 0)
    }
    if not due:
        return "no request fell due: the loader was told of no rate, or was started again"
    if not ends:
        return f"{ok} of {due} requests were answered, and the others have not ended yet"
    first, *others = sorted(ends, key=lambda how: -ends[how])[:_WAYS]
    shown = ", ".join(f"{ends[how]} x {_words(how)}" for how in (first, *others))
    said = str(after.get("said", ""))
    of_its_own = said.startswith(SAID_OF_HANDSHAKE) and "TLS" in ends
    if not of_its_own and not any(how.startswith("STATUS") for how in ends):
        said = ""
    counted = max(due, ok + sum(ends.values()))  # some that ended fell due before the first reading
    sentences = [f"of {counted} requests {ok} were answered well: {shown}" + (f" ({said})" if said else "")]
    if of_its_own and first == "TLS":
        sentences.append(_OWN_HANDSHAKE)
    elif sign := _SIGNS.get(first) or _SIGNS.get(first.partition(" ")[0]):
        sentences.append(f"likely: {sign}")
    if first.startswith("STATUS"):
        by_proxy = any(line.strip().lower().startswith(tuple(headers)) for line in said.split(";")) if headers else None
        if by_proxy is False or (by_proxy is None and not said):
            sentences.append("no header of a proxy is in that answer: the application itself may have given it")
        elif by_proxy:
            sentences.append("a proxy of the mesh made that answer, or passed it on")
    return ". ".join(sentences)


def _words(how: str) -> str:
    return how.replace("_", " ").lower().replace("status ", "status ")
