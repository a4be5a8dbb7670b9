"""Whether a tenant's batch Job ended, and if not, whether a proxy beside it keeps its pod alive."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from chaos.kube.client import Cluster
from chaos.kube.objects import container_statuses, has_condition, is_owned_by, true_conditions
from chaos.toolkit.readings import Reading, opinion
from chaos.verdict import Verdict


def completion(cluster: Cluster, namespace: str, name: str, patience: float) -> Reading:
    """Return the Job's state now; open while it works, or before it exists."""
    job = cluster.find("Job", name, namespace)
    if job is None:
        return opinion(None, Verdict.INCONCLUSIVE, f"there is no job {namespace}/{name} yet")
    pods = [pod for pod in cluster.list("Pod", namespace) if owned(pod, job)]
    return detect_fate(job, pods, now=datetime.now(UTC), patience=patience)


def detect_fate(job: dict[str, Any], pods: list[dict[str, Any]], *, now: datetime, patience: float) -> Reading:
    """Derive the state from a Job and its pods. Pure."""
    if has_condition(job, "Complete"):
        return opinion("complete", Verdict.PASS, "the job completed")
    if failed := true_conditions(job).get("Failed"):
        text = f"the job failed: {failed.get('reason', '')} {failed.get('message', '')}".strip()
        return opinion("failed", Verdict.FAIL, text)
    for pod in pods:
        states = {one["name"]: one.get("state", {}) for one in container_statuses(pod)}
        ended = states.get("job", {}).get("terminated")
        beside = [name for name, state in states.items() if name != "job" and "running" in state]
        if ended and beside:
            since = (now - datetime.fromisoformat(ended["finishedAt"])).total_seconds()
            if since > patience:
                why = (
                    f"its work ended {since:.0f} s ago (exit code {ended.get('exitCode')}), "
                    f"and {', '.join(beside)} keeps its pod running"
                )
                return opinion("held by its proxy", Verdict.FAIL, why)
    return opinion("running", Verdict.INCONCLUSIVE, "the job runs")


def owned(pod: dict[str, Any], job: dict[str, Any]) -> bool:
    return is_owned_by(pod, {job["metadata"]["uid"]})
