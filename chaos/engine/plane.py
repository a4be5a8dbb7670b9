"""The parts of a mesh's control plane that a trial may stop or roll out."""

from __future__ import annotations

from chaos.engine.scenario import NotApplicable
from chaos.engine.trial import Trial
from chaos.mesh.handle import PlanePart


def listed_parts(trial: Trial) -> list[PlanePart]:
    """Return the parts that may be stopped or rolled out. Raises NotApplicable where there is none, or somebody
    else's was not listed.
    """
    parts, listed = list(trial.mesh.plane_parts()), trial.deployment.settings.consent.namespaces
    if not parts:
        raise NotApplicable("no workload of the mesh's control plane is there, or you may not see it")
    if trial.mesh.mode.brought_by and not trial.cluster.owned:
        spaces = sorted({part.workload.partition("/")[0] for part in parts} - set(listed))
        if spaces:
            raise NotApplicable(
                f"it changes {', '.join(part.workload for part in parts)}, which serve others too, and "
                f"{', '.join(spaces)} was not listed: --chaos-namespaces"
            )
    return parts
