"""Checks that the private keys of each proxy are exactly `identities_held`: by the control plane's log, and by its
memory.

The log says what was handed out; memory says what is there. Envoy's /certs alone would miss certificates that it asks
for on demand. Every issued key has its own public half, so a key found in memory tells whose it is and to whom it was
given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from chaos.engine.features.context import CheckContext
from chaos.errors import ExperimentFailure
from chaos.mesh.authority import plane_authority
from chaos.model.fate import identities_held, path
from chaos.model.placement import Pair, Proxy
from chaos.names import spiffe_id
from chaos.verdict.check import Check, decided, undecided


def handed_to(log: Iterable[Mapping[str, Any]], proxy: Proxy) -> set[str]:
    """Return the identities that the control plane gave the proxy."""
    return {line["identity"] for line in log if line["proxy_uid"] == proxy.uid and not line["refused"]}


def differences(expected: Mapping[Proxy, set[str]], found: Mapping[Proxy, set[str]]) -> list[str]:
    """Describe where the two sets differ. Pure."""
    return [
        f"{proxy} {word} {', '.join(sorted(who.rpartition('/ns/')[2] or who for who in names))}"
        for proxy in expected
        for word, names in (("lacks", expected[proxy] - found[proxy]), ("also holds", found[proxy] - expected[proxy]))
        if names
    ]


def check_identities(context: CheckContext) -> list[Check]:
    """Compare for each proxy: the model, the log, the memory."""
    placement = context.mesh.placement()
    log = context.reference_mesh.control_plane()["identities"]
    whose = {line["public_key_sha256"]: line["identity"] for line in log if line["public_key_sha256"]}
    expected = {proxy: {spiffe_id(*held) for held in identities_held(placement, proxy)} for proxy in placement.proxies}
    handed = {proxy: handed_to(log, proxy) for proxy in placement.proxies}
    keys: dict[Proxy, list[str]] = {}
    try:
        for proxy in placement.proxies:
            keys[proxy] = context.run_on_node(
                proxy.node,
                "chaos.engine.features.programs.memory_keys",
                proxy.uid,
                proxy.container_id.rpartition("//")[2],
            )
    except ExperimentFailure as error:
        return [undecided("private keys in memory are those that the model says", str(error))]
    in_memory = {
        proxy: {whose.get(key, "a key that nobody was handed") for key in found} for proxy, found in keys.items()
    }
    by_log, by_memory = differences(expected, handed), differences(expected, in_memory)
    total = sum(map(len, expected.values()))
    return [
        decided(
            "identities handed out are those that the model says",
            not by_log,
            "; ".join(by_log) or f"{len(expected)} proxies were handed {total} identities",
            max(map(len, handed.values()), default=0),
            "identities, the most of one proxy",
        ),
        decided(
            "private keys in memory are those that the model says",
            not by_memory,
            "; ".join(by_memory)
            or f"{sum(map(len, keys.values()))} keys were found in the memory of {len(expected)} proxies",
            max(map(len, in_memory.values()), default=0),
            "identities, the most of one proxy",
        ),
    ]


def check_refusals(context: CheckContext) -> list[Check]:
    """Take the token of the proxy before the client's servers and request every identity with it."""
    name = "asked for another's identity, the control plane refuses and logs it"
    placement = context.mesh.placement()
    proxy = path(placement, Pair(context.client, context.servers[0]))[-1][0]
    own = {spiffe_id(*held) for held in identities_held(placement, proxy)}
    others = {spiffe_id(*held) for one in placement.proxies for held in identities_held(placement, one)} - own
    others.add(spiffe_id("nowhere", "nobody"))
    asked = sorted(own | others)
    found = context.run_on_node(
        proxy.node,
        "chaos.engine.features.programs.request_identity",
        json.dumps(
            {
                "uid": proxy.uid,
                "container_id": proxy.container_id.rpartition("//")[2],
                "identities": asked,
                "trusted": plane_authority(context.cluster, run=context.mesh.run).root_pem.decode(),
            }
        ),
    )
    if not own & set(found["given"]):
        return [undecided(name, f"not even its own identity was given to {proxy}: {found['error']}")]
    logged = {
        line["identity"]
        for line in context.reference_mesh.control_plane()["identities"]
        if line["refused"] and line["proxy_uid"] == proxy.uid
    }
    wrong = others & set(found["given"])
    return [
        decided(
            name,
            not wrong and others <= logged,
            f"{proxy} asked for {len(asked)}, was given {len(own & set(found['given']))} of its own and {len(wrong)} "
            "of others; "
            f"{len(others & logged)} of {len(others)} refusals are in the log",
            len(wrong),
            "identities of others",
        )
    ]
