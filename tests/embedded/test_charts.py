"""Applications as charts render them, applied by stock kubectl: all of it is ready, or is refused in one sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.kube.client import Cluster
from tests.embedded.stock import standing, stock_kubectl

pytestmark = pytest.mark.privileged

NAME = "charts-test"
CHARTS = Path(__file__).with_name("charts")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with standing(NAME) as found:
        yield found


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return stock_kubectl(NAME, *arguments)


def out(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def apply(chart: str) -> list[str]:
    """What was refused of it, a line each."""
    done = run("apply", "-f", str(CHARTS / f"{chart}.yaml"))
    return done.stderr.splitlines()


def rolled_out(*names: str) -> None:
    for name in names:
        out("rollout", "status", name, "--timeout=80s")


def test_a_replicated_cache_is_ready_and_keeps_what_it_was_told(cluster: Cluster) -> None:
    assert apply("cache") == []
    rolled_out("sts/cache-master", "sts/cache-replicas")
    ask = ("exec", "cache-master-0", "--", "python", "/opt/scripts/ask.py")
    assert out(*ask, "AUTH", "secret") == "+OK\n"
    assert out(*ask, "SET", "key", "value") == "+OK\n"
    out("delete", "pod", "cache-master-0")
    rolled_out("sts/cache-master")
    assert out(*ask, "GET", "key") == "value\n"
    assert len(out("get", "pvc", "-o", "name").split()) == 3
    out("delete", "-f", str(CHARTS / "cache.yaml"), "--ignore-not-found")
    cluster.wait(
        "the replicas' claims go with them, the master's stays",
        lambda: out("get", "pvc", "-o", "name") == "persistentvolumeclaim/cache-data-cache-master-0\n",
        seconds=30,
    )


def test_a_database_is_ready_as_its_own_user_and_ends_cleanly(cluster: Cluster) -> None:
    assert apply("database") == []
    rolled_out("sts/database")
    answer = "import urllib.request as r; print(r.urlopen('http://database:5432').read().decode())"
    assert out("exec", "database-0", "-c", "metrics", "--", "python", "-c", answer).split() == ["17", "1001"]
    out("delete", "pod", "database-0")
    rolled_out("sts/database")
    words = out("exec", "database-0", "-c", "database", "--", "cat", "/database/data/clean", "/database/data/last-word")
    assert words == "yesstopping\n"


def test_a_web_application_has_its_autoscalers_least_and_its_ingress_is_refused_in_a_sentence(cluster: Cluster) -> None:
    (refused,) = apply("web")
    assert "ingresses" in refused
    assert refused.startswith("Error from server (NotImplemented)")
    rolled_out("deploy/web")

    def scaled(replicas: int) -> bool:
        found = cluster.get("Deployment", "web", "default").get("status", {})
        return bool(found.get("readyReplicas") == replicas)

    cluster.wait("it has its least", lambda: scaled(2), seconds=40)
