"""The comparison of modes, and its pictures."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from chaos.report import write_reports
from chaos.report.comparison import MISSING, QUESTIONS, Cell, Comparison, compare_modes
from chaos.report.picture import SCALE, Box, Text, cell_picture, plan_picture, png, svg
from chaos.report.records import read_run
from chaos.report.sharing import read_sharing
from tests.report.synthetic import make_run, make_trial


def compared(run: Path) -> Comparison:
    record = read_run(run, seconds=1)
    return compare_modes(record, [read_sharing(trial.directory) for trial in record.trials])


def claims(run: Path, mode: str, scenario: str, *checks: tuple[str, float, str, str]) -> None:
    """A trial of claims: (name, value, unit, verdict) of each."""
    directory = run / "trials" / mode / scenario
    directory.mkdir(parents=True)
    result = {
        "mode": mode,
        "scenario": scenario,
        "target": "",
        "seed": 1,
        "seconds": 1.0,
        "predicted": {"hurt": [], "unhurt": []},
        "observed": {"hurt": [], "unhurt": [], "inconclusive": []},
        "measures": {
            name: {"value": value, "low": None, "high": None, "unit": unit} for name, value, unit, _ in checks if unit
        },
        "verdict": "pass",
        "reason": "shown",
        "judgement": {
            "checks": [{"name": n, "value": v, "unit": u, "verdict": w, "sentence": ""} for n, v, u, w in checks]
        },
    }
    (directory / "result.json").write_text(json.dumps(result))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = make_run(tmp_path / "run")
    for mode, restarted, lost, held, ends in (("sidecar", 2, 31, 1, "hang"), ("node", 0, 7, 12, "end")):
        claims(
            made,
            mode,
            "proxy-upgraded",
            ("applications restart exactly where the proxy is a part of their pod", restarted, "containers", "pass"),
            ("requests lost by tenant-a/client -> tenant-a/server", lost, "requests", "pass"),
            ("long streams cut of tenant-a/client", 3, "connections", "pass"),
        )
        claims(
            made,
            mode,
            "identities-exposed",
            ("private keys in memory are those that the model says", held, "identities, the most of one proxy", "pass"),
        )
        claims(
            made,
            mode,
            "job-completes",
            ("the Job never ends" if ends == "hang" else "the Job completes", 6, "s", "pass"),
        )
        claims(
            made,
            mode,
            "footprint",
            ("memory of proxies per pod", 20.0 if mode == "sidecar" else 9.0, "MiB", "pass"),
            ("CPU of proxies per 1,000 requests", 0.4, "core-seconds", "pass"),
        )
    return made


@pytest.mark.parametrize(
    ("heading", "sidecar", "node"),
    [
        ("one proxy's death takes down", "1 of 9 pods", "4 of 9 pods"),
        ("an upgrade of the proxies", "2 applications restarted", "0 applications restarted"),
        ("identities that one proxy exposes", "1 identity", "12 identities"),
        ("a Job", "hangs", "ends"),
        ("memory and CPU of proxies", "20 MiB a pod", "9 MiB a pod"),
        ("CPU of a proxy, by the rule of equal CPU", "100m each", "450m each"),
    ],
)
def test_each_mode_answers_the_questions_that_were_asked_of_it(
    run: Path, heading: str, sidecar: str, node: str
) -> None:
    found = compared(run)
    column = next(column for column in found.columns if column.heading == heading)
    by_mode = dict(zip(found.modes, column.cells, strict=True))
    assert (by_mode["sidecar"].text, by_mode["node"].text) == (sidecar, node)


def test_an_outage_is_measured_where_somebody_was_out_and_nowhere_else(run: Path) -> None:
    found = compared(run)
    outage = next(column for column in found.columns if column.heading == "outage of those")
    none, sidecar, node = outage.cells
    assert (none.text, none.share) == ("none", 0.0)
    assert sidecar.text.startswith("1.0")
    assert max(sidecar.share or 0, node.share or 0) == 1.0


def test_a_target_that_was_broken_again_as_its_successor_is_found_all_the_same(tmp_path: Path) -> None:
    made = make_run(tmp_path, modes=("node",))
    path = made / "trials/node/proxy-killed/result.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "target": f"{raw['target']}, sharedfate-system/successor[proxy]"}))
    found = compared(made)
    assert found.columns[0].cells[0].text == "4 of 9 pods"


def test_a_question_that_nobody_was_asked_has_no_column_and_is_named(tmp_path: Path) -> None:
    found = compared(make_run(tmp_path))
    assert {column.heading for column in found.columns} & {"a Job", "an upgrade of the proxies"} == set()
    assert "a Job (job-completes)" in found.untried
    assert len(found.columns) + len(found.untried) == len(QUESTIONS)


def test_a_mode_that_was_not_asked_says_so(run: Path) -> None:
    found = compared(run)
    job = next(column for column in found.columns if column.heading == "a Job")
    assert job.cells[found.modes.index("none")] == Cell(MISSING)


def test_what_rests_on_a_doubtful_trial_says_so(tmp_path: Path) -> None:
    made = make_run(tmp_path, modes=("none",))
    make_trial(made, "node", hurt={"a": 1.0, "b": 0.5, "c": 0.6})
    found = compared(made)
    down = next(column for column in found.columns if column.heading.startswith("one proxy's death"))
    assert [cell.doubt for cell in down.cells] == ["", "not as predicted"]


def test_the_picture_has_the_size_it_says_in_both_formats_and_the_same_texts(run: Path) -> None:
    picture = plan_picture(compared(run), title="A <finding> & more", footer="where it comes from")
    root = ET.fromstring(svg(picture))
    assert (int(root.attrib["width"]), int(root.attrib["height"])) == (picture.width, picture.height)
    told = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert told == [shape.text for shape in picture.shapes if isinstance(shape, Text)]
    assert "A <finding> & more" in told
    image = Image.open(io.BytesIO(png(picture)))
    assert image.size == (SCALE * picture.width, SCALE * picture.height)
    boxes = [shape for shape in picture.shapes if isinstance(shape, Box)]
    for box in boxes:
        red, green, blue = (int(box.colour[k : k + 2], 16) for k in (1, 3, 5))
        assert image.getpixel((SCALE * box.x, SCALE * box.y)) == (red, green, blue)


def test_nothing_of_the_picture_lies_outside_of_it(run: Path) -> None:
    picture = plan_picture(compared(run), title="t " * 300, footer="f " * 300)
    for shape in picture.shapes:
        assert 0 <= shape.x < picture.width
        assert 0 <= shape.y < picture.height
        if isinstance(shape, Box):
            assert shape.x + shape.width <= picture.width


def test_a_cell_without_a_figure_has_no_picture() -> None:
    assert cell_picture(Cell("ends")) == ""
    assert 'class="dot"' in cell_picture(Cell("1 of 2", dots=(1, 2)))


def test_the_run_directory_holds_both(run: Path) -> None:
    reports = write_reports(run, seconds=1)
    assert reports.svg.read_text().startswith("<svg ")
    assert reports.png.read_bytes().startswith(b"\x89PNG")
