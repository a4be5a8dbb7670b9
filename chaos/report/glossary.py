"""The terms of a report, for readers who did not write the tests. Printed at the end of the page."""

from __future__ import annotations

from typing import Final

GLOSSARY: Final[tuple[tuple[str, str], ...]] = (
    ("as predicted", "just those were hurt who the sharing model says must be, by about the share that it says."),
    (
        "not as predicted",
        "somebody was hurt who should not have been, or was not who should have been, or did not recover.",
    ),
    ("cannot tell", "the noise was too large, or a witness was missing. It never counts as passed."),
    ("sharing model", "from the live placement: which pods' traffic passes which proxy. Nobody types a prediction."),
    ("tenant", "somebody with namespaces of their own, whose client calls their own server."),
    ("flow", "the requests of one client workload to one server workload."),
    ("target", "what the fault broke: mostly one proxy."),
    (
        "behind the target",
        "of a pod: the target carries its traffic. Of a flow: the share of its traffic that it carries.",
    ),
    ("hurt", "more requests failed, or were slow, during the fault than before it, by more than the margin."),
    ("lost", "requests that failed or of which nobody knows, from the fault's beginning until the flow recovered."),
    ("outage", "from a flow's first lost request to its first good one after the last lost."),
    (
        "recovered after",
        "from when the fault was seen to be over to the flow's last harmed request: 0 when there was none.",
    ),
    (
        "the judge was sure after",
        "how long the judge had to look. It looks at set times, and says nothing of the mesh.",
    ),
    ("errors, slow", "the share of requests that failed, and that took longer than nearly all did in the baseline."),
    ("points", "percentage points: from 2 % to 5 % are 3 points."),
    ("baseline", "the seconds of steady load before the fault, of the same trial."),
    ("p50, p99", "half, and 99 of 100, of the answers came at least so fast, counted from when the request was due."),
    ("bystander", "a flow of which no part passes the target."),
    ("sentinel", "requests past every proxy: when they suffer, it is the machine, and the verdict is *cannot tell*."),
    ("placebo", "a process that no traffic passes: broken in mode none, where nobody may notice."),
    ("not judged", "a flow of which the model predicts nothing, such as the noisy tenant's own."),
    ("mode", "who shares a proxy with whom: a pod (sidecar), a node, a namespace (waypoint), or nobody (none)."),
    ("L4, L7", "a proxy that carries connections, and one that reads the requests in them."),
    ("wrong status", "answered, with another status code than the expected one."),
    ("shed", "a request that the loader itself did not send, for too many were waiting."),
)
