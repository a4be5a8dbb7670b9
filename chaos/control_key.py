"""Who may turn the knobs of a run's own ports: whoever holds the run's key.

The loader's and the server's control port (9990) and the control plane's status port (15014) are reached by every pod
of the cluster, and a tenant under test that set its own load, or read others', would write its own verdict. So what is
more than a probe is answered to a token alone. The key lies in one Secret of the system namespace
(`chaos.kube.control_key`); each namespace has a token of its own, made from the key, and its pods hold no more than the
token's digest: neither what a tenant reads of its own pods nor a token that one namespace is sent opens another's.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from typing import Final

HEADER: Final = "x-sharedfate-token"
VARIABLE: Final = "CONTROL_DIGEST"  # in a pod's environment: `ControlKey.digest` of its namespace
REFUSED: Final = "this port wants its namespace's token"
UNTOLD: Final = f"{REFUSED}, and this pod was told none by {VARIABLE}: no run of ours deployed it"


@dataclass(frozen=True, slots=True)
class ControlKey:
    """The key of a run's ports."""

    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> ControlKey:
        """Another one, that nobody can guess."""
        return cls(secrets.token_bytes(32))

    def token(self, namespace: str) -> str:
        """What callers of ports in that namespace send, in the header `HEADER`."""
        return hmac.new(self.secret, f"control of {namespace}".encode(), hashlib.sha256).hexdigest()

    def digest(self, namespace: str) -> str:
        """What the pods of that namespace know the token by; it gives nothing away."""
        return _digest(self.token(namespace).encode())


def _digest(token: bytes) -> str:
    return hashlib.sha256(token).hexdigest()


@dataclass(frozen=True, slots=True)
class Gate:
    """A port that answers to one token; with no digest to nobody."""

    digest: str

    @classmethod
    def of_pod(cls) -> Gate:
        """As this pod's environment says."""
        return cls(os.environ.get(VARIABLE, ""))

    @property
    def refusal(self) -> str:
        """What the others are told."""
        return REFUSED if self.digest else UNTOLD

    def admits(self, token: bytes) -> bool:
        """Whether that is the token, compared in constant time."""
        return hmac.compare_digest(_digest(token), self.digest)
