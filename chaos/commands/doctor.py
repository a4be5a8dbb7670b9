"""`sharedfate doctor`: what can run in a cluster, and why not, before anything is changed."""

from __future__ import annotations

import sys

import click


def _scenarios() -> dict[str, dict[str, tuple[str, ...] | str]]:
    """Scenario -> mode -> the faults that it injects, or why it does not apply there."""
    from chaos.engine.catalogue import scenario_names
    from chaos.engine.scenario import SCENARIOS
    from chaos.model.modes import MODES

    return {
        name: {
            mode.name: SCENARIOS[name].skip_reason(mode)
            or tuple(sorted(fault.name for fault in SCENARIOS[name].faults))
            for mode in MODES.values()
        }
        for name in scenario_names()
    }


@click.command()
@click.option(
    "--cluster", default="embedded", show_default=True, help="embedded, kind[:NAME], k3d[:NAME], or context:NAME"
)
def doctor(cluster: str) -> None:
    """Say what can run in a cluster and why not; changes nothing. Exit code 0: something can; 4: nothing can."""
    from chaos.cluster.consent import Consent
    from chaos.cluster.providers import Kind, connect, parse_spec

    spec = parse_spec(cluster)
    match spec.kind:
        case Kind.EMBEDDED:
            from chaos.embedded.provider import preflight

            missing = preflight()
            click.echo("\n".join(missing) if missing else "the embedded cluster can run here, and every scenario in it")
            sys.exit(4 if missing else 0)
        case Kind.KIND:
            from chaos.cluster.commands import Shell
            from chaos.cluster.kind import plan_environment

            plan_environment(Shell())
            click.echo(
                "kind can be called here; once the cluster is there: sharedfate doctor --cluster context:kind-"
                f"{spec.name}"
            )
        case Kind.K3D:
            from chaos.cluster.commands import Shell
            from chaos.cluster.k3d import PREFIX, refuse_missing

            refuse_missing(Shell())
            click.echo(
                "k3d can be called here; once the cluster is there: sharedfate doctor --cluster "
                f"context:{PREFIX}{spec.name}"
            )
        case Kind.CONTEXT:
            from chaos.doctor.facts import read_facts
            from chaos.doctor.findings import blockers, findings
            from chaos.doctor.text import report

            client = connect(spec.name, consent=Consent(production=True))  # looking harms nobody
            try:
                facts = read_facts(client)
            finally:
                client.close()
            click.echo(report(facts, findings(facts, _scenarios())))
            sys.exit(4 if blockers(facts) else 0)
