"""Batch Jobs beside proxies: whether they end, whether they bear a proxy's death, by which policies, and whether they
may start before it.
"""

from __future__ import annotations

from contextlib import ExitStack

from chaos.engine.cron import CronRun
from chaos.engine.job_rows import JobRounds, tally
from chaos.engine.jobs import LINGERS, JobRun
from chaos.engine.scenario import scenario, without_proxies
from chaos.engine.targets import container_of, workload
from chaos.engine.trial import Trial
from chaos.errors import TargetVanished
from chaos.faults.control_plane import ControlPlane
from chaos.faults.kill import Kill
from chaos.faults.restart import Restart
from chaos.model.job_fate import ROUNDS
from chaos.model.modes import ProxyMode
from chaos.model.placement import Proxy
from chaos.names import CONTROL_PLANE, SYSTEM_NAMESPACE
from chaos.verdict.check import decided, measured


def jobs_end(mode: ProxyMode) -> str:
    """Why the scenario does not apply: what never ends cannot end well."""
    return "a Job does not end in this mode: job-completes shows that" if mode.holds_jobs else ""


NO_JOB = "it deploys a Job of the reference apps, and a target file declares none"
TRIES = 8  # of each request, with a growing pause: a Job that minds its dependencies


@scenario("job-completes", reference_apps_only=NO_JOB)
def job_completes(trial: Trial) -> None:
    """A Job ends when its application does, but where a proxy is an ordinary container of its pod: there it must be
    seen not to.
    """
    with JobRun(trial, "completes", tries=TRIES) as job:
        seen = job.watch()
    held = trial.mesh.mode.holds_jobs
    trial.show(
        decided("the Job's application did its work", seen.app_exit == 0, seen.application(), seen.app_seconds, "s")
    )
    trial.show(seen.once(job.requests))
    trial.show(
        decided(
            "the Job never ends" if held else "the Job completes",
            seen.complete is not held and not seen.failed,
            f"{LINGERS:g} s after its application the Job was still running"
            if not seen.complete
            else f"the Job was complete {seen.after_app:.1f} s after its application",
            seen.after_app,
            "s",
        )
    )


def kill_proxy(trial: Trial, proxy: Proxy) -> None:
    """Kill the proxy that serves a Job's pod. A pod that is gone before its proxy is back is a finding."""
    try:
        with trial.fault(Kill(), container_of(trial.cluster, proxy)):
            pass
    except TargetVanished as error:
        trial.show(decided("the Job's pod outlives its proxy", False, str(error)))


@scenario("job-proxy-killed", faults=(Kill,), skip_reason=jobs_end, reference_apps_only=NO_JOB)
def job_proxy_killed(trial: Trial) -> None:
    """A Job whose proxy is killed half-way still completes; its retries are counted."""
    with JobRun(trial, "proxy-killed", requests=80, interval=0.05, tries=TRIES) as job:
        kill_proxy(trial, job.proxy())
        seen = job.watch()
    trial.show(decided("the Job completes", seen.complete and not seen.failed, seen.application()))
    trial.show(decided("the Job's application did its work", seen.app_exit == 0, seen.application()))
    trial.show(seen.once(job.requests))
    trial.show(measured("retries of the Job", f"{seen.pods} pods were needed", seen.pods - 1, "pods"))
    trial.show(
        measured("retries of its requests", f"{seen.retried} requests were tried again", seen.retried, "requests")
    )


@scenario("cron-job", faults=(Kill,), reference_apps_only="it deploys a CronJob, and a target file declares none")
def cron_job(trial: Trial) -> None:
    """A CronJob whose run loses its proxy does not miss the next run, but where its Jobs never end, which loses runs
    without any fault: there it must be seen to.
    """
    held = trial.mesh.mode.holds_jobs
    with CronRun(trial, "cron", tries=TRIES) as cron:
        due, proxy = cron.await_first()
        if not held:
            kill_proxy(trial, proxy)
        seen = cron.await_next(due)
    for check in seen.judge(held=held):
        trial.show(check)


@scenario("job-starts-before-proxy", faults=(ControlPlane,), skip_reason=without_proxies, reference_apps_only=NO_JOB)
def job_starts_before_proxy(trial: Trial) -> None:
    """Where the proxy does not start before the application, a Job's first request fails while the proxy is slow to
    come.
    """
    with ExitStack() as stack:
        if not trial.mesh.mode.brought_by:  # an installed mesh's control plane is as quick as it is
            target = workload(trial.cluster, f"{SYSTEM_NAMESPACE}/{CONTROL_PLANE}", "Deployment")
            stack.enter_context(trial.fault(ControlPlane(answer="slow", delay=2.0), target))
        seen = stack.enter_context(JobRun(trial, "starts-early", requests=3, tries=30)).watch()
    ready = trial.mesh.mode.ready_before_app
    trial.show(
        decided(
            "the first request is answered" if ready else "the first request comes too early",
            (seen.first == "ok") is ready,
            f"the first request of the Job ended as {seen.first or 'nothing at all'!r}",
        )
    )
    trial.show(
        decided(
            "the Job's requests are answered in the end", seen.app_exit == 0, seen.application(), seen.app_seconds, "s"
        )
    )


@scenario(
    "job-policies",
    faults=(Kill, Restart, ControlPlane),
    reference_mesh_only="it kills proxies of yours seven times: job-proxy-killed does so once",
    reference_apps_only=NO_JOB,
)
def job_policies(trial: Trial) -> None:
    """What becomes of a Job whose proxy dies, is upgraded or never gets ready, or whose pod is evicted, follows from
    its policy and from where its proxy runs.
    """
    rounds, found = JobRounds(trial), []
    for one in ROUNDS:
        for check in rounds.run(one):
            found.append(check)
            trial.show(check)
    for end, number in tally(found).items():
        trial.show(measured(f"Jobs: {end}", f"{number} of {len(found)} Jobs", number, "Jobs"))
