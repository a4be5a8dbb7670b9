"""`sharedfate job`: the suite as a Job of the cluster that it tries; `sharedfate fetch`: the Job's reports.

A run from a laptop ends when its lid closes. Inside the cluster it goes on, and reaches pods and API server from there.
"""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import Any, Final

import click

from chaos.commands.which import connected, known_modes, known_scenarios, looked_into, offer
from chaos.errors import EnvironmentUnfit
from chaos.names import NAME

NAMESPACE: Final = f"{NAME}-job"
_JOB: Final = f"{NAME}-run"  # the Job's name, as in manifests/job.yaml


def plan_job(arguments: list[str], *, namespace: str, files: dict[str, str]) -> list[dict[str, Any]]:
    """The Job with its namespace, account, roles and files.

    Args:
        arguments: of `sharedfate run`.
        files: name -> content; they lie in /files.
    """
    from chaos.mesh import manifests

    values = {"namespace": namespace, "arguments": arguments, "files": files}
    roles = [obj for name in ("runner", "runner-streams") for obj in manifests.load(f"rbac/{name}.yaml", {})]
    first, *rest = manifests.load("job.yaml", values)
    return [first, *roles, *rest]


@click.command()
@click.option("--modes", default="", help="proxy modes, comma separated", shell_complete=offer(known_modes))
@click.option("--scenarios", default="", help="scenarios, comma separated", shell_complete=offer(known_scenarios))
@click.option(
    "--target", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="target file, in place of modes"
)
@click.option("--namespace", default=NAMESPACE, show_default=True, help="in which the Job runs; made if need be")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def job(modes: str, scenarios: str, target: Path | None, namespace: str, pytest_arguments: tuple[str, ...]) -> None:
    """Print a Job that runs the suite inside the cluster, for `kubectl apply -f -`; after -- pytest's own options."""
    from chaos.mesh import manifests

    chosen = {"--modes": modes, "--scenarios": scenarios, "--target": "/files/target.yaml" if target else ""}
    arguments = [part for option, value in chosen.items() if value for part in (option, value)]
    if pytest_arguments:
        arguments += ["--", *pytest_arguments]
    files = {"target.yaml": target.read_text()} if target else {}
    click.echo(manifests.dump(plan_job(arguments, namespace=namespace, files=files)), nl=False)


@click.command()
@looked_into
@click.option("--job-namespace", default=NAMESPACE, show_default=True, help="in which the Job runs")
@click.option(
    "--out", default="sharedfate-out", show_default=True, type=click.Path(path_type=Path), help="run directory"
)
def fetch(spec: str, kubeconfig: Path | None, job_namespace: str, out: Path) -> None:
    """Fetch the reports of the Job that `sharedfate job` printed, and exit as its run did."""
    with connected(spec, kubeconfig) as cluster:
        pods = cluster.list("Pod", job_namespace, labels=f"app={_JOB}")
        if not pods:
            raise EnvironmentUnfit(
                f"no pod of Job {job_namespace}/{_JOB}: was it applied (sharedfate job | kubectl apply -f -)?"
            )
        pod = max(pods, key=lambda one: str(one["metadata"]["creationTimestamp"]))
        name, phase = pod["metadata"]["name"], pod.get("status", {}).get("phase", "")
        log = cluster.logs(job_namespace, name) if phase in ("Running", "Succeeded", "Failed") else ""
        statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    number = unpack(log, out)
    if number is None:
        last = (log.strip().splitlines() or ["no log yet"])[-1]
        raise EnvironmentUnfit(
            f"Job {job_namespace}/{_JOB}: pod {name} is {phase}, and its reports are not there: {last:.200}"
        )
    click.echo(f"{out}: {number} files")
    sys.exit(statuses[0].get("state", {}).get("terminated", {}).get("exitCode", 0))


def unpack(log: str, out: Path) -> int | None:
    """Put the files of a Job's log into the directory; how many, or None when the log does not hold them whole."""
    import io
    import tarfile

    from chaos.inpod.delivery import taken

    archive = taken(log)
    if archive is None:
        return None
    kept = 0
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            name = PurePosixPath(member.name)
            if not member.isfile() or name.is_absolute() or ".." in name.parts:
                continue  # a run directory holds none, and a log is anybody's word
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(files.extractfile(member).read())  # type: ignore[union-attr]
            kept += 1
    return kept
