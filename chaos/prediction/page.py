"""`prediction.html`: one file that needs no network. Its lists are searched by a few lines of script, which the page's
policy names by their hash; without script they are whole.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from chaos.prediction.outages import Kind
from chaos.prediction.predicting import Point, Prediction, percent
from chaos.prediction.text import counted, headline, sentence
from chaos.report.page import LIMIT, page_environment

ROWS: Final = (4000, 2000, 1000, 500, 200, 100, 50)  # of a list; the first with which the page keeps its limit is taken
_SCRIPT: Final = """
for (const box of document.querySelectorAll("input[type=search]")) {
  const rows = document.querySelectorAll("#" + box.dataset.of + " tbody tr"), said = box.nextElementSibling;
  box.hidden = false;
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(" ").filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
      shown += !row.hidden;
    }
    said.textContent = words.length ? shown + " of " + rows.length : "";
  });
}
"""


@dataclass(frozen=True, slots=True)
class TenantRow:
    """A tenant, and what it depends on most."""

    name: str
    proxy: tuple[str, float]
    node: tuple[str, float]
    zone: tuple[str, float]


def page(found: Prediction, *, limit: int = LIMIT) -> str:
    """Return the page, with lists as long as the size limit (bytes) allows."""
    text = ""
    for rows in ROWS:
        text = _render(found, rows)
        if len(text.encode()) <= limit:
            break
    return text


def _render(found: Prediction, rows: int) -> str:
    tenants = tenant_rows(found)
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    lists = [
        (kind, title, points[:rows], len(points))
        for kind, title, points in (
            (Kind.NODE, "Nodes", found.nodes),
            (Kind.ZONE, "Zones", found.zones),
            (Kind.PROXY, "Proxies", found.proxies),
        )
        if points
    ]
    return (
        page_environment("chaos.prediction")
        .get_template("page.html.j2")
        .render(
            found=found,
            headline=headline(found),
            lists=lists,
            tenants=tenants[:rows],
            tenant_count=len(tenants),
            percent=percent,
            counted=counted,
            sentence=sentence,
            script=Markup(_SCRIPT),
            digest=digest,
        )
    )


def tenant_rows(found: Prediction) -> list[TenantRow]:
    """Each tenant with the proxy, the node and the zone on which most of its calls depend; the most dependent first."""
    worst = [_worst_by_tenant(points) for points in (found.proxies, found.nodes, found.zones)]
    names = sorted({pod.tenant for pod in found.world.placement.pods})
    rows = [TenantRow(name, *(of.get(name, ("", 0.0)) for of in worst)) for name in names]
    return sorted(rows, key=lambda row: (-row.proxy[1], row.name))


def _worst_by_tenant(points: Sequence[Point]) -> dict[str, tuple[str, float]]:
    found: dict[str, tuple[str, float]] = {}
    for point in points:
        for tenant, share in point.tenants.items():
            if share > found.get(tenant, ("", 0.0))[1]:
                found[tenant] = (point.name, share)
    return found
