"""The suite as a Job of the cluster that it tries: rendered, applied as kubectl does, and its reports fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.commands.job import unpack
from chaos.inpod.delivery import MOST_BYTES, lines, pack, taken
from chaos.kube.client import Cluster
from chaos.names import LABEL_RUN, SYSTEM_NAMESPACE
from tests.stranger import foreign_mesh as foreign
from tests.stranger.clusters import Stranger, command, stranger


def job_ended(admin: Cluster) -> bool:
    status = admin.get("Job", "sharedfate-run", "sharedfate-job").get("status") or {}
    return bool(status.get("succeeded") or status.get("failed"))


def apply(admin: Cluster, *arguments: str) -> None:
    """As `sharedfate job ARGUMENTS | kubectl apply -f -`."""
    rendered = command("job", *arguments)
    assert rendered.returncode == 0, rendered.stderr
    for obj in yaml.safe_load_all(rendered.stdout):
        admin.create(obj)


def fetched(theirs: Stranger, out: Path) -> dict[str, Any]:
    """The Job's report, once it has ended."""
    theirs.admin.wait("the Job has ended", lambda: job_ended(theirs.admin), seconds=240, every=0.5)
    done = command("fetch", "--cluster", f"embedded:{theirs.name}", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((out / "run.json").read_text())["cluster"]["kind"] == "in-cluster"
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


@pytest.mark.slow
@pytest.mark.privileged
def test_a_run_inside_the_cluster_tries_it_and_its_reports_are_fetched_by_one_command(tmp_path: Path) -> None:
    with stranger(tmp_path, granted=False) as theirs:
        admin = theirs.admin
        apply(admin, "--modes", "none", "--scenarios", "proxy-paused", "--", "--chaos-inconclusive=skip")
        admin.wait(
            "the Job's pod runs",
            lambda: admin.find("Namespace", SYSTEM_NAMESPACE) or job_ended(admin),
            seconds=120,
            every=0.2,
        )
        early = command("fetch", "--cluster", f"embedded:{theirs.name}", "--out", str(tmp_path / "early"))
        assert early.returncode == 4
        assert "its reports are not there" in early.stderr
        out = tmp_path / "out"
        fetched(theirs, out)
        assert (out / "trials/none/proxy-paused/events.jsonl").is_file()
        assert admin.list("Namespace", labels=LABEL_RUN) == []


@pytest.mark.privileged
@pytest.mark.judged
def test_a_run_inside_the_cluster_tries_a_mesh_that_is_there_by_its_target_file(tmp_path: Path) -> None:
    spaces = ("shop", "post")
    with stranger(tmp_path, granted=False) as theirs:
        foreign.install(theirs.admin, "node", tmp_path, namespaces=spaces)
        file = tmp_path / "target.yaml"
        file.write_text(yaml.safe_dump(foreign.target_file("node", namespaces=spaces)))
        consent = f"--chaos-namespaces={','.join((*spaces, f'{foreign.NAME}-system'))}"
        how = ("--target", str(file), "--scenarios", "proxy-killed", "--", consent, "--chaos-inconclusive=skip")
        apply(theirs.admin, *how)
        (trial,) = fetched(theirs, tmp_path / "out")["trials"]
        assert trial["mode"] == "their-node"
        (hurt,) = trial["predicted"]["hurt"]
        assert hurt.startswith("shop/")
        assert trial["observed"]["hurt"] in ([hurt], []), trial  # a busy machine may leave it open
        assert trial["verdict"] in ("pass", "inconclusive"), trial
        assert theirs.admin.list("Namespace", labels=LABEL_RUN) == []
        assert theirs.admin.list("Pod", "shop", labels=LABEL_RUN) == []


def test_what_comes_out_of_a_log_is_what_went_in(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "trials/none/x").mkdir(parents=True)
    (out / "report.json").write_text("{}")
    (out / "trials/none/x/events.jsonl").write_bytes(bytes(range(256)) * 50)
    log = "\n".join(["a trial", *lines(pack(out)), "the end"])
    assert unpack(log, tmp_path / "there") == 2
    assert (tmp_path / "there/trials/none/x/events.jsonl").read_bytes() == bytes(range(256)) * 50


def test_histories_that_a_log_could_not_hold_stay_behind(tmp_path: Path) -> None:
    import random

    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "samples.arrow").write_bytes(random.Random(1).randbytes(MOST_BYTES + 1))
    archive = taken("\n".join(lines(pack(tmp_path))))
    assert archive is not None
    assert len(archive) < 10_000


@pytest.mark.parametrize("cut", [1, 2])
def test_a_log_that_was_cut_is_no_report(cut: int, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    assert taken("\n".join(list(lines(pack(tmp_path)))[:-cut])) is None


def test_a_log_writes_nothing_outside_its_directory(tmp_path: Path) -> None:
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("../outside", "/tmp/sharedfate-outside", "link", "inside"):
            member = tarfile.TarInfo(name)
            if name == "link":
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member, io.BytesIO())
    assert unpack("\n".join(lines(buffer.getvalue())), tmp_path / "there") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inside", "there"]
