"""The command line as one types it: one spelling for a cluster, one table of exit codes, answers for people."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from chaos.cli import main
from chaos.cluster.providers import ClusterSpec, Kind, parse_spec
from chaos.errors import Misuse

TOP = Path(__file__).resolve().parents[2]


def said(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin)


def commands(group: click.Group, *before: str) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in group.commands.items():
        found.append(((*before, name), command))
        if isinstance(command, click.Group):
            found += commands(command, *before, name)
    return found


@pytest.mark.parametrize("path", [(), *(path for path, _ in commands(main))], ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_answers_to_both_spellings_of_help(path: tuple[str, ...], option: str) -> None:
    done = said(*path, option)
    assert (done.exit_code, "Usage:" in done.output) == (0, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("render",),
        ("--bogus",),
        ("cluster", "node", "node-2", "explode"),
        ("cluster", "bogus"),
        ("inject",),
        ("inject", "kill", "--bogus"),
        ("inject", "kill", "--cluster", "minikube"),
        ("status", "--cluster", "kind:"),
        ("target", "x.yaml"),
        ("report", "/nowhere"),
        ("compare", "/nowhere", "/nowhere"),
        ("render", "--mode", "sidecart"),
        ("image", "load", "--cluster", "bogus", __file__),
    ],
    ids=" ".join,
)
def test_whatever_is_refused_exits_with_4(arguments: tuple[str, ...]) -> None:
    done = said(*arguments)
    assert done.exit_code == 4, done.output
    assert len(done.output.splitlines()) == 1
    assert "Usage" not in done.output


TAKE_OPTIONS = [(path, one) for path, one in commands(main) if not isinstance(one, click.Group) and path != ("run",)]


@pytest.mark.parametrize(("path", "command"), TAKE_OPTIONS, ids=[" ".join(path) for path, _ in TAKE_OPTIONS])
def test_an_option_that_is_not_there_is_one_line_with_the_nearest(
    path: tuple[str, ...], command: click.Command
) -> None:
    known = [name for one in command.params for name in one.opts if name.startswith("--")] or ["--help"]
    for name in known:
        wrong = f"{name[:4]}x{name[4:]}"
        done = said(*path, wrong)
        assert done.exit_code == 4
        (line,) = done.output.splitlines()
        assert wrong in line
        assert name in line


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("embedded", ClusterSpec(Kind.EMBEDDED)),
        ("embedded:mine", ClusterSpec(Kind.EMBEDDED, "mine")),
        ("kind", ClusterSpec(Kind.KIND, "sharedfate")),
        ("kind:mine", ClusterSpec(Kind.KIND, "mine")),
        ("k3d:mine", ClusterSpec(Kind.K3D, "mine")),
        ("context:mine", ClusterSpec(Kind.CONTEXT, "mine")),
        ("in-cluster", ClusterSpec(Kind.IN_CLUSTER)),
    ],
)
def test_a_cluster_is_spelt_one_way(text: str, spec: ClusterSpec) -> None:
    assert parse_spec(text) == spec


@pytest.mark.parametrize("text", ["embedded:", "kind:", "k3d:", "context:", "context", "in-cluster:", "mine", ""])
def test_a_cluster_that_is_spelt_otherwise_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(Misuse, match=r"context:NAME"):
        parse_spec(text)


def test_every_option_that_names_a_cluster_takes_every_spelling() -> None:
    helps = {
        " ".join(path): option.help
        for path, command in commands(main)
        for option in command.params
        if isinstance(option, click.Option) and "--cluster" in option.opts
    }
    assert {"run", "inject", "stop", "faults", "status", "doctor", "target"} <= helps.keys()
    wrong = [name for name, text in helps.items() if "embedded[:NAME]" not in str(text) and name not in ("clean",)]
    assert wrong == ["image load"]  # whose default is no cluster at all


def test_the_state_of_a_cluster_that_is_not_there_is_a_sentence_and_an_exit_code() -> None:
    done = said("cluster", "status", "--name", "not-there")
    assert done.exit_code == 4
    assert done.output == "not-there: down: start it with `sharedfate cluster up --name not-there`\n"
    done = said("cluster", "status", "--name", "not-there", "--json")
    assert done.exit_code == 4
    assert json.loads(done.output) == {"name": "not-there", "state": "down", "pid": None, "kubeconfig": None}


@pytest.mark.parametrize("command", ["inject kill --layer l7", "stop", "faults --check", "status"])
def test_a_command_for_a_cluster_that_does_not_run_says_how_to_start_it(command: str) -> None:
    done = said(*command.split(), "--cluster", "embedded:not-there")
    assert done.exit_code == 4
    assert "no embedded cluster named 'not-there' is up: start one with `sharedfate cluster up --name not-there`" in (
        done.output
    )


APP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: NAME, namespace: shop}
"""


def names(text: str) -> set[str]:
    return {one["metadata"]["name"] for one in yaml.safe_load_all(text) if one["kind"] == "ConfigMap"}


def test_render_reads_standard_input_and_whole_folders(tmp_path: Path) -> None:
    piped = said("render", "--mode", "none", "-f", "-", stdin=APP.replace("NAME", "piped"))
    assert piped.exit_code == 0, piped.output
    assert "piped" in names(piped.output)
    (tmp_path / "deep").mkdir()
    (tmp_path / "one.yaml").write_text(APP.replace("NAME", "one"))
    (tmp_path / "deep" / "two.yml").write_text(APP.replace("NAME", "two"))
    (tmp_path / "README.md").write_text("not a manifest")
    folder = said("render", "--mode", "none", "-f", str(tmp_path))
    assert {"one", "two"} <= names(folder.output)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    done = said("render", "--mode", "none", "-f", str(tmp_path))
    assert (done.exit_code, "no .yaml, .yml or .json file" in done.output) == (4, True)


@pytest.mark.parametrize(
    ("typed", "incomplete", "offered"),
    [
        (("run", "--modes"), "si", {"sidecar"}),
        (
            ("run", "--modes"),
            "sidecar,am",
            {"sidecar,ambient-namespace", "sidecar,ambient-node", "sidecar,ambient-pod"},
        ),
        (("run", "--scenarios"), "proxy-k", {"proxy-killed"}),
        (("inject",), "cut", {"cut-node"}),
        (("inject", "kill", "--cluster"), "k", {"kind", "k3d"}),
        (("render", "--mode"), "no", {"none", "node"}),
        (("experiment", "show"), "proxy-paus", {"proxy-paused"}),
    ],
)
def test_the_shell_completes_modes_scenarios_faults_clusters_and_experiments(
    typed: tuple[str, ...], incomplete: str, offered: set[str]
) -> None:
    complete = ShellComplete(main, {}, "sharedfate", "_SHAREDFATE_COMPLETE")
    assert {item.value for item in complete.get_completions(list(typed), incomplete)} == offered


def test_the_contexts_of_ones_kubeconfig_are_offered_and_a_broken_one_offers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(file))
    complete = ShellComplete(main, {}, "sharedfate", "_SHAREDFATE_COMPLETE")
    file.write_text(yaml.safe_dump({"contexts": [{"name": "staging"}]}))
    assert [item.value for item in complete.get_completions(["status", "--cluster"], "context:")] == ["context:staging"]
    file.write_text("{")
    assert complete.get_completions(["status", "--cluster"], "context:") == []


def test_the_page_holds_the_table_of_exit_codes_that_the_command_tells() -> None:
    page = (TOP / "docs" / "command-line.md").read_text()
    assert set(re.findall(r"^\| (\d) \|", page, re.MULTILINE)) == {"0", "1", "4", "5"}
    assert "Exit codes: 0 done" in said("--help").output


@pytest.mark.parametrize("like", ["proxy-paused", "proxy-killed"])
def test_an_experiment_that_is_begun_has_a_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, like: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said("experiment", "new", "my-claim.yaml", "--like", like).exit_code == 0
    assert said("experiment", "validate", "my-claim.yaml").output == "1 right\n"
    found = yaml.safe_load((tmp_path / "my-claim.yaml").read_text())
    assert found["controls"][0]["provider"]["arguments"]["name"] == "my-claim"
    assert like not in (tmp_path / "my-claim.yaml").read_text()
    again = said("experiment", "new", "my-claim.yaml")
    assert (again.exit_code, "already exists" in again.output) == (4, True)


@pytest.mark.parametrize(
    "arguments", [("render", "--mode", "sidecar"), ("experiment", "list"), ("--help",)], ids=" ".join
)
def test_a_reader_that_has_enough_ends_a_command_in_silence(arguments: tuple[str, ...]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "chaos", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said_of_it = process.communicate(timeout=60)
    assert (process.returncode, said_of_it) == (0, "")


KUBECONFIG = [
    (*path, *(("kill", "--layer", "l7") if path == ("inject",) else ("--check",) if path == ("faults",) else ()))
    for path, command in commands(main)
    if any("--kubeconfig" in one.opts for one in command.params)
]


@pytest.mark.parametrize("cluster", ["embedded", "embedded:mine", "in-cluster"])
@pytest.mark.parametrize("path", KUBECONFIG, ids=" ".join)
def test_a_kubeconfig_is_refused_where_none_is_asked(path: tuple[str, ...], cluster: str) -> None:
    done = said(*path, "--cluster", cluster, "--kubeconfig", "/somewhere")
    assert done.exit_code == 4, done.output
    assert "--kubeconfig does nothing on --cluster" in done.output


def test_every_command_that_takes_a_kubeconfig_is_tried() -> None:
    assert {path[0] for path in KUBECONFIG} == {"status", "inject", "stop", "faults", "fetch"}


# What was typed -> the option that would do nothing
IGNORED = {
    "doctor --try": "--try",
    "doctor --cluster kind --try": "--try",
    "doctor --cluster k3d:mine --try": "--try",
    "clean --namespaces shop": "--namespaces",
    "clean --cluster embedded:mine --namespaces shop": "--namespaces",
    "clean --cluster kind --namespaces shop": "--namespaces",
    "clean --cluster kind:mine --run r1": "--run",
    "clean --cluster k3d --run r1 --dry-run": "--run",
    "clean --cluster embedded:mine --run r1": "--run",
    "faults --cluster context:mine": "--cluster",
    "faults --kubeconfig /somewhere": "--kubeconfig",
    "inject kill --seed 3": "--seed",
    "inject kill --pick all --seed 0": "--seed",
    f"image load --cluster embedded:mine --engine docker {__file__}": "--engine",
    f"image load --cluster kind --engine podman {__file__}": "--engine",
    "target --cluster context:mine --namespaces shop x.yaml": "--namespaces",
    "image build --engine docker --isolation chroot": "--isolation",
}


@pytest.mark.parametrize("typed", IGNORED, ids=lambda typed: typed.replace(__file__, "FILE"))
def test_an_option_that_would_do_nothing_is_refused_by_its_name(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("docker", "podman", "kind", "k3d"):  # found, and would say that they were called
        (tmp_path / name).write_text("#!/bin/sh\necho CALLED\nexit 9\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    done = said(*typed.split())
    assert done.exit_code == 4, done.output
    assert IGNORED[typed] in done.output
    assert "CALLED" not in done.output
    assert "No such option" not in done.output


# Options of a run -> the one that would do nothing
RUN_IGNORED = {
    ("--chaos-cluster=embedded", "--chaos-allow-production"): "--chaos-allow-production",
    ("--chaos-cluster=kind", "--chaos-namespaces=shop"): "--chaos-namespaces",
    ("--chaos-cluster=embedded", "--chaos-kind-image=kindest/node:v1.31.0"): "--chaos-kind-image",
    ("--chaos-cluster=context:mine", "--chaos-kind-image=kindest/node:v1.31.0"): "--chaos-kind-image",
    ("--chaos-cluster=in-cluster", f"--chaos-image-archive={__file__}"): "--chaos-image-archive",
    ("--chaos-cluster=embedded:mine", f"--chaos-image-archive={__file__}"): "--chaos-image-archive",
    ("--chaos-cluster=context:mine", "--chaos-nodes=3"): "--chaos-nodes",
}


@pytest.mark.parametrize("options", RUN_IGNORED, ids=lambda options: options[0] + options[1].partition("=")[0])
def test_an_option_of_a_run_that_would_do_nothing_is_refused_by_its_name(
    options: tuple[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "chaos.cli", "run", "--out", str(tmp_path / "out"), "--", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"{RUN_IGNORED[options]} does nothing on --cluster" in done.stdout + done.stderr
