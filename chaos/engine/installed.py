"""The reference tenants in a mesh that is installed in the cluster: the `Deployment` of one of its modes."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.clock import Clock
from chaos.cluster.consent import NAMESPACES_OPTION
from chaos.engine.deployment import Deployment, first_on_path, read_tenants, tenant_objects
from chaos.engine.progress import Progress
from chaos.engine.settings import Settings
from chaos.errors import Misuse
from chaos.external.installed import InstalledMesh
from chaos.external.modes import InstalledMode
from chaos.kube.client import Cluster
from chaos.kube.nodes import read_nodes
from chaos.mesh.budget import Budget


def installed_deployment(
    cluster: Cluster,
    mode: InstalledMode,
    *,
    run: str,
    settings: Settings,
    progress: Progress,
    clock: Clock | None = None,
) -> Deployment:
    """Plan the reference tenants, enrolled in the mesh. Reads only.

    Raises EnvironmentUnfit when the mesh is not installed, Misuse for too few nodes, and when a namespace whose proxies
    a trial would break was not listed.
    """
    tenants = read_tenants(cluster, read_nodes(cluster).names, settings.topology)
    mesh = InstalledMesh(
        cluster,
        mode,
        run=run,
        tenants={tenant.name: tenant.namespace for tenant in tenants},
        calls={(tenant.client, tenant.server): f"server.{tenant.namespace}:80" for tenant in tenants},
        budget=Budget(settings.budget),
    )
    mesh.refuse_missing()
    elsewhere = mesh.namespaces_of_proxies()
    if not cluster.owned:
        refuse_unlisted_proxies(mode.mesh.name, elsewhere, settings.consent.namespaces)
    return Deployment(
        mesh,
        tenants,
        tenant_objects(tenants),
        breaks=first_on_path,
        settings=settings,
        progress=progress,
        clock=clock,
        elsewhere=elsewhere,
        title=f"deploying the reference tenants into {mode.mesh.name}, as it is installed",
    )


def refuse_unlisted_proxies(mesh: str, spaces: Sequence[str], listed: Sequence[str]) -> None:
    """Raise Misuse unless the namespaces of the mesh's shared proxies were listed: a trial breaks them for
    everybody.
    """
    if missing := [name for name in spaces if name not in listed]:
        raise Misuse(
            f"a trial would break proxies of {mesh} in {', '.join(spaces)}, which carry others too, and "
            f"{', '.join(missing)} was not listed. Nothing was changed. If they may be harmed: {NAMESPACES_OPTION} "
            f"{','.join(spaces)}"
        )
