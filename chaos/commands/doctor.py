"""`sharedfate doctor`: what can run in a cluster, and why not, before anything is changed."""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from chaos.commands.which import cluster_option, looking
from chaos.errors import Misuse

if TYPE_CHECKING:
    from chaos.doctor.facts import Facts
    from chaos.kube.client import Cluster


@click.command()
@cluster_option()
@click.option(
    "--try",
    "trying",
    is_flag=True,
    help="try it: pods of each kind, a request, a command, a policy, in namespaces that go again (context:NAME)",
)
def doctor(spec: str, trying: bool) -> None:
    """Say what can run in a cluster and why not. Exit code 0: something can; 4: nothing can.

    Changes nothing, unless it is told to try.
    """
    from chaos.cluster.providers import Kind, parse_spec

    parsed = parse_spec(spec)
    if trying and not (parsed.kind.theirs or (parsed.kind is Kind.EMBEDDED and parsed.name)):
        raise Misuse(
            f"--try does nothing on --cluster {spec}, which says what can start here: name a cluster that runs, "
            "context:NAME, in-cluster or embedded:NAME"
        )
    match parsed.kind:
        case Kind.EMBEDDED if not parsed.name:
            from chaos.embedded.provider import preflight

            missing = preflight()
            if missing and os.environ.get("KUBERNETES_SERVICE_HOST"):
                missing.append("this is a pod: the cluster that it is in is `--cluster in-cluster`")
            click.echo("\n".join(missing) if missing else "the embedded cluster can run here, and every scenario in it")
            sys.exit(4 if missing else 0)
        case Kind.KIND:
            from chaos.cluster.commands import Shell
            from chaos.cluster.kind import plan_environment

            plan_environment(Shell())
            click.echo(
                "kind can be called here; once the cluster is there: sharedfate doctor --cluster context:kind-"
                f"{parsed.name}"
            )
        case Kind.K3D:
            from chaos.cluster.commands import Shell
            from chaos.cluster.k3d import PREFIX, refuse_missing

            refuse_missing(Shell())
            click.echo(
                "k3d can be called here; once the cluster is there: sharedfate doctor --cluster "
                f"context:{PREFIX}{parsed.name}"
            )
        case Kind.CONTEXT | Kind.IN_CLUSTER | Kind.EMBEDDED:
            from chaos.doctor.facts import read_facts
            from chaos.doctor.findings import blockers, findings
            from chaos.doctor.text import report
            from chaos.engine.catalogue import faults_of_scenarios
            from chaos.external.installations import read_installed

            with looking(spec) as client:
                facts = read_facts(client)
                meshes = read_installed(client)
                if trying and not blockers(facts):
                    facts = try_out(client, facts)
            click.echo(report(facts, findings(facts, faults_of_scenarios())))
            click.echo("\n".join(["meshes", *(f"  {one}" for one in meshes)]))
            sys.exit(4 if blockers(facts) else 0)


def try_out(client: Cluster, facts: Facts) -> Facts:
    """The facts with what came of trying every kind of pod; waits until what was made is gone."""
    from chaos.doctor.preflight import await_gone, preflight
    from chaos.doctor.tried import PodKind

    tried = preflight(client, facts.choice, tuple(PodKind), run=f"doctor-{secrets.token_hex(4)}")
    await_gone(client)
    return replace(facts, tried=tried)
