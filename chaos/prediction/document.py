"""`prediction.json`, version 1: every figure of a prediction, for programs."""

from __future__ import annotations

from typing import Any

from chaos.prediction.predicting import Point, Prediction, Summary
from chaos.prediction.text import sentence

VERSION = 1


def document(found: Prediction) -> dict[str, Any]:
    """Return the prediction as plain JSON types.

    Shares are in [0, 1]. `flows` of a point are all that it hurts, worst first; `tenants` those whose calls fail.
    """
    world, placement = found.world, found.world.placement
    return {
        "version": VERSION,
        "source": world.source,
        "mesh": world.mesh,
        "mode": placement.mode.name,
        "caveats": list(world.caveats),
        "counts": {
            "pods": len(placement.pods),
            "proxies": len(found.proxies),
            "flows": len(placement.calls),
            "tenants": len({pod.tenant for pod in placement.pods}),
            "nodes": len(world.nodes),
            "zones": len(set(world.zones.values())),
        },
        "worst": [{**_point(point), "sentence": sentence(point)} for point in found.worst],
        "proxies": [_point(point) for point in found.proxies],
        "nodes": [_point(point) for point in found.nodes],
        "zones": [_point(point) for point in found.zones],
        "when": [{**_point(point), "sentence": sentence(point)} for point in found.whens],
        "sharings": [_summary(summary) for summary in found.summaries],
        "when_shared_otherwise": [
            {"sharing": summary.sharing, "when": [{**_point(one), "sentence": sentence(one)} for one in other.whens]}
            for other, summary in zip(found.others, found.summaries[1:], strict=True)
            if other.whens
        ],
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "kind": str(point.kind),
        "name": point.name,
        "about": point.about,
        "total": point.total,
        "tenants": dict(point.tenants),
        "flows": [
            {"client": flow.client, "server": flow.server, "share": flow.share, "may_move": flow.may_move}
            for flow in point.flows
        ],
    }


def _summary(one: Summary) -> dict[str, Any]:
    places = {"worst_proxy": one.worst, "worst_node": one.worst_node, "worst_zone": one.worst_zone}
    return {
        "sharing": one.sharing,
        "proxies": one.proxies,
        "flows_of_a_proxy": one.shared,
        "mean": one.mean,
        **{key: {"name": point.name, "total": point.total} if point else None for key, point in places.items()},
    }
