"""report.json, report.md and the terminal's table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.errors import Misuse
from chaos.report import terminal_table, unfinished_of, write_reports
from chaos.report.document import check, schema
from chaos.report.records import read_run
from chaos.report.sharing import cpu_statement, emulated, read_sharing
from tests.report.synthetic import make_run, make_trial


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_run(tmp_path_factory.mktemp("run"))
    write_reports(directory, seconds=61.5)
    return directory


def edit(directory: Path, **changes: object) -> None:
    path = directory / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_json_has_the_fields_of_version_1_and_no_other(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    assert set(report) == {"version", "run", "started", "seconds", "cluster", "trials", "unfinished"}
    assert (report["version"], report["run"], report["seconds"]) == (1, "0badcafe", 61.5)
    assert [trial["mode"] for trial in report["trials"]] == ["none", "sidecar", "node"]
    node = report["trials"][2]
    assert set(node) == {
        "mode",
        "scenario",
        "target",
        "seed",
        "seconds",
        "predicted",
        "observed",
        "measures",
        "verdict",
        "reason",
    }
    assert node["observed"]["hurt"] == ["tenant-a/client -> tenant-a/server", "tenant-b/client -> tenant-b/server"]
    assert node["measures"]["requests lost"]["value"] > 250


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        (("version",), 2),
        (("trials", 0, "verdict"), "maybe"),
        (("trials", 0, "seed"), "x"),
        (("extra",), 1),
        (("trials", 0, "predicted"), {"hurt": []}),
        (("trials", 0, "measures"), {"x": {"value": 1}}),
        (("cluster", "nodes"), 0),
        (("trials", 0, "observed", "hurt"), ["just a name"]),
        (("started",), "yesterday"),
    ],
)
def test_the_schema_refuses_a_report_that_breaks_the_contract(
    run: Path, where: tuple[str | int, ...], wrong: object
) -> None:
    report = json.loads((run / "report.json").read_text())
    check(report)
    place = report
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = wrong
    with pytest.raises(Misuse, match=r"report\.json: \$"):
        check(report)


def test_the_schema_is_a_schema() -> None:
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(schema())


def test_no_number_that_json_does_not_know_gets_into_the_report(tmp_path: Path) -> None:
    make_run(tmp_path, modes=())
    directory = make_trial(tmp_path, "node")
    edit(directory, measures={"x": {"value": 1.0, "low": float("-inf"), "high": float("nan"), "unit": "s"}})
    write_reports(tmp_path, seconds=1)
    report = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert report["trials"][0]["measures"]["x"] == {"value": 1.0, "low": None, "high": None, "unit": "s"}


def test_a_result_with_a_verdict_of_no_known_kind_is_refused_by_name(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node",))
    edit(tmp_path / "trials/node/proxy-killed", verdict="green")
    with pytest.raises(Misuse, match=r"result\.json: verdict is 'green'"):
        write_reports(tmp_path, seconds=1)


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"run\.json: no such file"):
        write_reports(tmp_path, seconds=1)


def test_a_run_without_a_trial_is_no_success(tmp_path: Path) -> None:
    write_reports(make_run(tmp_path, modes=()), seconds=1)
    assert "nothing was tested" in (tmp_path / "report.md").read_text()
    assert terminal_table([]) == "no trial came to a result"


def test_the_markdown_shows_predicted_beside_observed(run: Path) -> None:
    text = (run / "report.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| node | proxy-killed |"))
    assert row.count("tenant-a, tenant-b") == 2
    assert "errors +100 points (" in row
    assert "3 trials: 3 as predicted" in text
    assert "&gt;" not in text
    assert "Emulated: the Kubernetes API" in text


def test_markdown_of_hostile_names_keeps_its_table_and_holds_no_tag(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node",))
    evil = {"target": "<script>alert(1)</script>", "reason": "a | b\n| c <img src=x>", "verdict": "fail"}
    edit(tmp_path / "trials/node/proxy-killed", **evil)
    write_reports(tmp_path, seconds=1)
    text = (tmp_path / "report.md").read_text()
    assert "<script" not in text
    assert "<img" not in text
    assert "a \\| b \\| c" in text


def test_equal_cpu_is_read_from_the_placements(run: Path) -> None:
    record = read_run(run, seconds=1)
    said = cpu_statement(record, [read_sharing(trial.directory) for trial in record.trials])
    assert "900 millicores" in said
    assert "sidecar: 900m over 9" in said


def test_a_mode_with_more_cpu_than_the_others_is_named(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("sidecar",))
    make_trial(tmp_path, "node", budget=1800)
    record = read_run(tmp_path, seconds=1)
    said = cpu_statement(record, [read_sharing(trial.directory) for trial in record.trials])
    assert "NOT" in said
    assert "do not compare node with" in said


def test_a_real_cluster_is_not_called_emulated() -> None:
    assert "Nothing is emulated" in emulated({"kind": "kind"})


def test_the_table_tells_of_a_neighbour_that_was_hurt(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("none",))
    make_trial(tmp_path, "node", hurt={"a": 1.0, "b": 0.5, "c": 0.6})
    table = terminal_table(read_run(tmp_path, seconds=1).trials)
    lines = table.splitlines()
    assert lines[0].startswith("When one proxy was killed: none: nobody was hurt; node: 3 of 3 tenants were hurt")
    assert lines[1].startswith("NOT AS PREDICTED: proxy-killed[node]: unexpected: tenant-c; ")
    assert "tenant-c/client -> tenant-c/server was hurt" in lines[1]
    assert lines[5].startswith("proxy-killed[node]  NOT AS PREDICTED")
    assert lines[-1] == "2 trials: 1 as predicted, 1 not as predicted"


def test_a_trial_that_came_to_no_result_is_named_in_every_page(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node", "sidecar"))
    (tmp_path / "trials/sidecar/proxy-killed/result.json").unlink()
    reports = write_reports(tmp_path, seconds=1)
    assert "Began and came to no result: proxy-killed[sidecar]" in reports.markdown.read_text()
    assert "came to no result:</strong> proxy-killed[sidecar]" in reports.html.read_text()
    told = terminal_table(read_run(tmp_path, seconds=1).trials, unfinished_of(tmp_path)).splitlines()
    assert told[0].endswith("1 trial came to no result.")
    assert told[-1] == "2 trials: 1 as predicted, 1 without a result"


def test_trials_without_a_result_are_not_among_all_that_came_out_as_predicted(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node",))
    make_trial(tmp_path, "node", scenario="proxy-paused")
    trials = read_run(tmp_path, seconds=1).trials
    assert "All 2 trials came out" in terminal_table(trials)
    assert "2 of 3 trials came out as the sharing model predicts, 1 came to no result." in terminal_table(
        trials, ["x[y]"]
    )


def test_a_trial_in_which_no_flow_was_judged_does_not_say_that_nobody_was_hurt(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node",))
    edit(
        tmp_path / "trials/node/proxy-killed",
        verdict="inconclusive",
        judgement={},
        measures={},
        observed={"hurt": [], "unhurt": [], "inconclusive": []},
    )
    reports = write_reports(tmp_path, seconds=1)
    assert "| tenant-a, tenant-b | not known |" in reports.markdown.read_text()
    assert "hurt: not known" in reports.html.read_text()
    assert "not known" in terminal_table(read_run(tmp_path, seconds=1).trials)


def test_what_was_seen_of_a_flow_of_which_nothing_was_predicted_is_told_and_a_paused_one_is_not(tmp_path: Path) -> None:
    directory = make_run(tmp_path, modes=("node",))
    (trial,) = directory.glob("trials/node/*")
    result = json.loads((trial / "result.json").read_text())
    a, b = (f"tenant-{name}/client -> tenant-{name}/server" for name in "ab")
    flows = result["judgement"]["flows"]
    next(flow for flow in flows if flow["flow"] == b)["expected_share"] = None
    flows.append(
        {
            "flow": "tenant-d/client -> tenant-d/server",
            "expected_share": None,
            "finding": "inconclusive",
            "errors": {"n": 0},
            "slow": {"n": 0},
        }
    )
    edit(
        trial,
        judgement={**result["judgement"], "flows": flows},
        predicted={**result["predicted"], "hurt": [a]},
        observed={**result["observed"], "hurt": [a]},
    )
    write_reports(directory, seconds=1.0)
    said = "tenant-a; not predicted: tenant-b (hurt)"
    assert f"| {said} |" in (directory / "report.md").read_text()
    assert said in terminal_table(read_run(directory, seconds=1.0).trials)
    page = (directory / "report.html").read_text()
    assert said in page
    assert "1 of 2 flows hurt" in page
    assert "tenant-d (" not in page
