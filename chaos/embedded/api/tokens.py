"""Service-account tokens: JWTs signed with the cluster's key and bound to a pod, as by the TokenRequest API.

The claims are Kubernetes' own (k8s.io/kubernetes/pkg/serviceaccount/claims.go), so that a verifier (the mesh's control
plane, by TokenReview) learns pod and node. Called by the API server (`serviceaccounts/token`, authentication,
TokenReview) and by the kubelets, which put a token into each pod.
"""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chaos.embedded.resources import NODE, POD, SERVICE_ACCOUNT, Object
from chaos.embedded.store import Store

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
_ALGORITHM: Final = "ES256"
# Audience and times are held against this issuer's own clock, in Kubernetes' words
_SIGNATURE_ALONE: Final[Any] = dict.fromkeys(
    ("verify_aud", "verify_exp", "verify_nbf", "verify_iat", "verify_iss"), False
)


class BadToken(ValueError):
    """The token is invalid or expired."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity in a token."""

    namespace: str
    account: str
    uid: str
    audiences: tuple[str, ...]
    extra: Mapping[str, list[str]]

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.account}"


def key_id(public: ec.EllipticCurvePublicKey) -> str:
    """A signing key's id, by Kubernetes' digest (pkg/serviceaccount/jwt.go keyIDFromPublicKey)."""
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")


def discovery_document(address: str) -> dict[str, Any]:
    """The document `/.well-known/openid-configuration`; `address` is the API server's."""
    return {
        "issuer": ISSUER,
        "jwks_uri": f"https://{address}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [_ALGORITHM],
    }


class TokenIssuer:
    """Issues and verifies tokens with a signing key of its own."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._public = self._key.public_key()
        self._key_id = key_id(self._public)

    def issue(
        self,
        namespace: str,
        account: str,
        *,
        audiences: Sequence[str] = (),
        seconds: int = 3600,
        pod: Object | None = None,
    ) -> tuple[str, float]:
        """Issue a token for the account; (the token, its expiry in Unix time). Raises NotFound without the account."""
        held = self._store.get(SERVICE_ACCOUNT, namespace, account)
        now = self._clock()
        end = now + seconds
        about: dict[str, Any] = {
            "namespace": namespace,
            "serviceaccount": {"name": account, "uid": held["metadata"]["uid"]},
        }
        if pod is not None:
            about["pod"] = {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
            if node := pod["spec"].get("nodeName"):
                held_node = self._store.find(NODE, "", node)
                about["node"] = {"name": node} | ({"uid": held_node["metadata"]["uid"]} if held_node else {})
            about["warnafter"] = int(now + min(seconds, 3607))
        claims = {
            "aud": list(audiences) or [ISSUER],
            "exp": int(end),
            "iat": int(now),
            "nbf": int(now),
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": about,
            "sub": f"system:serviceaccount:{namespace}:{account}",
        }
        return jwt.encode(claims, self._key, _ALGORITHM, headers={"kid": self._key_id}), end

    def keys(self) -> dict[str, Any]:
        """The JSON Web Key Set for other verifiers."""
        key: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(self._public, as_dict=True)
        return {"keys": [{"use": "sig", "kid": self._key_id, "alg": _ALGORITHM, **key}]}

    def verify(self, token: str, audiences: Sequence[str] = (ISSUER,)) -> Identity:
        """The token's identity; raises BadToken when it is forged, expired, for another audience, or its pod or account
        is gone.
        """
        claims = self._claims(token)
        now = self._clock()
        if not claims["nbf"] - 60 <= now < claims["exp"]:
            raise BadToken("token has expired")
        accepted = tuple(one for one in claims["aud"] if one in audiences)
        if not accepted:
            aud, target = (" ".join(f'"{one}"' for one in names) for names in (claims["aud"], audiences))
            raise BadToken(f"token audiences [{aud}] is invalid for the target audiences [{target}]")
        about = claims["kubernetes.io"]
        namespace, account = about["namespace"], about["serviceaccount"]
        held = self._store.find(SERVICE_ACCOUNT, namespace, account["name"])
        if held is None or held["metadata"]["uid"] != account["uid"]:
            raise BadToken("service account has been deleted")
        extra: dict[str, list[str]] = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}
        if bound := about.get("pod"):
            pod = self._store.find(POD, namespace, bound["name"])
            if pod is None or pod["metadata"]["uid"] != bound["uid"]:
                raise BadToken("pod has been deleted")
            extra["authentication.kubernetes.io/pod-name"] = [bound["name"]]
            extra["authentication.kubernetes.io/pod-uid"] = [bound["uid"]]
            if node := about.get("node"):
                extra["authentication.kubernetes.io/node-name"] = [node["name"]]
                if uid := node.get("uid"):
                    extra["authentication.kubernetes.io/node-uid"] = [uid]
        return Identity(namespace, account["name"], account["uid"], accepted, extra)

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(token, self._public, [_ALGORITHM], options=_SIGNATURE_ALONE)
        except jwt.InvalidTokenError as error:
            raise BadToken("invalid bearer token") from error
        return claims
