"""report.html: whole, self-contained, small, and safe to open."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chaos.report import write_reports
from chaos.report.page import LIMIT, _row, page, stressed
from chaos.report.records import read_run
from chaos.report.sharing import read_sharing
from chaos.report.sharing_diagram import MOST_NODES, NodeBox, PodBox, ProxyBox, fold, plan_diagram
from tests.report.synthetic import make_run, make_trial

VOID = {"meta", "br", "input", "rect", "path"}


class Outline(HTMLParser):
    """Checks that tags nest, and gathers ids, links and headings."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.tags.append((tag, facts))
        if tag not in VOID:
            self.open.append(tag)
        if "id" in facts:
            self.ids.append(str(facts["id"]))
        if tag == "a":
            self.links.append(str(facts["href"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = make_run(tmp_path_factory.mktemp("run"))
    make_trial(run, "node", scenario="proxy-paused", hurt={"a": 1.0, "b": 0.5, "c": 0.4})
    return write_reports(run, seconds=61.5).html.read_text()


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    found.close()
    assert found.open == []
    return found


def test_every_link_leads_to_a_place_of_the_page_itself(text: str) -> None:
    found = outline(text)
    assert len(found.ids) == len(set(found.ids))
    assert found.links
    assert {link for link in found.links if not link.startswith("#")} == set()
    assert {link[1:] for link in found.links} <= set(found.ids)


def test_the_page_needs_no_script_and_no_network(text: str) -> None:
    tags = outline(text).tags
    assert {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object"} == set()
    assert not any(name.startswith("on") or name == "src" for _, attributes in tags for name in attributes)
    assert re.search(r"https?://|url\(|@import", text) is None


def test_every_chart_says_in_words_what_it_shows(text: str) -> None:
    drawn = [attributes for tag, attributes in outline(text).tags if tag == "svg"]
    small = [one for one in drawn if one.get("class") == "mini"]  # these stand beside the same in words
    assert small
    assert all(one["aria-hidden"] == "true" for one in small)
    charts = [one for one in drawn if one not in small]
    assert len(charts) == 12
    assert all(chart["role"] == "img" and "requests" in (chart["aria-label"] or "") for chart in charts)
    assert any("refused" in (chart["aria-label"] or "") for chart in charts)


def test_headings_leave_out_no_level_and_tables_name_their_rows_and_columns(text: str) -> None:
    tags = outline(text).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in tags if tag == "th")


def test_the_fault_is_shaded_restarts_are_marked_and_causes_told_apart(text: str) -> None:
    for name in ('class="fault"', 'class="restart"', "cause cause-refused", "cause cause-timeout", 'class="p50"'):
        assert name in text, name


def test_a_neighbour_that_was_hurt_against_the_prediction_stands_out(text: str) -> None:
    calm, loud = text.split('id="trial-node-proxy-paused"')
    assert "unforeseen" not in calm.split("</style>")[1]
    assert '<tr class="flow contradiction harmed">' in loud
    assert "unforeseen" in loud


def test_the_finding_is_the_heading_and_what_came_out_otherwise_stands_right_below_it(text: str) -> None:
    heading = re.search("<h1>(.*?)</h1>", text)
    assert heading is not None
    assert heading[1].startswith(
        "The death of one proxy hurt 0 of 3 tenants in mode none, 1 of 3 in sidecar, 2 of 3 in"
    )
    assert "3 of 4 trials came out as the sharing model predicts, 1 did not." in heading[1]
    first = text.index('id="otherwise"')
    assert first < text.index('id="findings"') < text.index('id="comparison"') < text.index('id="matrix"')
    told = text[first : text.index('id="findings"')]
    assert re.findall(r'href="#(trial-[\w-]+)"', told) == ["trial-node-proxy-paused"]
    assert "unexpected: tenant-c" in told


def test_a_run_that_came_out_as_predicted_has_nothing_to_look_at_first(tmp_path: Path) -> None:
    text = write_reports(make_run(tmp_path, modes=("node",)), seconds=1).html.read_text()
    assert 'id="otherwise"' not in text
    assert "Nobody else noticed, as the sharing model predicts (1 of 1 mode)." in text


def test_of_a_fault_that_came_several_times_the_finding_tells_what_each_cost(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node",))
    path = tmp_path / "trials/node/proxy-killed/result.json"
    raw = json.loads(path.read_text())
    raw["measures"] |= {
        "requests lost": {"value": 80.2, "low": 60.0, "high": 110.0, "unit": "requests"},
        "outage": {"value": 0.41, "low": 0.38, "high": 0.47, "unit": "s"},
    }
    path.write_text(json.dumps(raw))
    text = write_reports(tmp_path, seconds=1).html.read_text()
    assert "2 of 3 tenants were hurt (tenant-a, tenant-b lost 80 requests and were out for 0.41 s each time)" in text


def test_every_word_that_the_page_uses_of_its_own_is_in_the_glossary(text: str) -> None:
    terms = re.findall("<dt>([^<]+)</dt>", text[text.index('id="glossary"') :])
    assert {"flow", "behind the target", "points", "placebo", "sentinel", "outage", "as predicted"} <= set(terms)


def test_a_flow_that_cannot_be_told_is_no_surprise(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node",))
    path = tmp_path / "trials/node/proxy-killed/result.json"
    raw = json.loads(path.read_text())
    for flow in raw["judgement"]["flows"]:
        flow["finding"] = "inconclusive"
    path.write_text(json.dumps(raw))
    assert 'class="flow contradiction' not in write_reports(tmp_path, seconds=1).html.read_text()


def test_what_comes_from_the_cluster_is_escaped_everywhere(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node",))
    path = tmp_path / "trials/node/proxy-killed/result.json"
    evil = "<script>alert(1)</script>\"'&"
    raw = json.loads(path.read_text())
    flow = f"tenant-a/{evil} -> tenant-a/server"
    path.write_text(
        json.dumps({**raw, "target": evil, "reason": evil, "observed": {**raw["observed"], "hurt": [flow]}})
    )
    with (path.parent / "events.jsonl").open("a") as log:
        log.write(
            json.dumps(
                {
                    "at": 1780000005 * 10**9,
                    "kind": "container",
                    "data": {"namespace": evil, "pod": evil, "state": "gone"},
                }
            )
            + "\n"
        )
    header = json.loads((path.parent / "trial.json").read_text())
    header["flows"][0]["client"] = evil
    (path.parent / "trial.json").write_text(json.dumps(header))
    text = write_reports(tmp_path, seconds=1).html.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    outline(text)


def test_the_page_stays_within_its_limit_by_coarser_timelines(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("sidecar", "node"))
    run = read_run(tmp_path, seconds=1)
    sharings = [read_sharing(trial.directory) for trial in run.trials]
    whole = len(page(run, sharings))
    assert len(page(run, sharings, limit=whole - 1).encode()) < whole
    assert "too many trials for timelines" in page(run, sharings, limit=1)


def test_a_trial_without_a_history_or_with_a_torn_one_is_reported_all_the_same(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("sidecar", "node", "none"))
    for name in ("samples.arrows", "events.jsonl", "trial.json"):
        (tmp_path / "trials/node/proxy-killed" / name).unlink()
    (tmp_path / "trials/sidecar/proxy-killed/trial.json").write_text("{}")
    samples = tmp_path / "trials/none/proxy-killed/samples.arrows"
    samples.write_bytes(samples.read_bytes()[:100])
    text = write_reports(tmp_path, seconds=1).html.read_text()
    assert "was not kept" in text
    assert "cannot be read" in text
    assert "holds no request" in text


def test_the_drawing_puts_the_target_where_it_is_and_colours_who_was_hurt(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node", "sidecar"))
    for trial in read_run(tmp_path, seconds=1).trials:
        sharing = read_sharing(trial.directory)
        assert sharing is not None
        first, second = plan_diagram(sharing, trial)
        behind = [pod.title for node in (first, second) for pod in node.pods if pod.behind]
        if trial.mode == "node":
            assert [proxy.target for proxy in (*first.proxies, *second.proxies)] == [True, False]
            assert behind == ["tenant-a/client-0", "tenant-a/server-0", "tenant-a/server-1", "tenant-b/server-0"]
            assert [pod.state for pod in second.pods] == ["hurt", "hurt", "not hurt", "not hurt", "not hurt"]
            assert second.pods[1].said == "its callers: hurt"
        else:
            assert behind == ["tenant-a/client-0"]
            assert first.proxies == ()
            assert all(len(pod.proxies) == 1 for pod in first.pods)


def many_nodes(nodes: int, pods: int, *, hurt: set[int], target: int = -1) -> tuple[NodeBox, ...]:
    found = []
    for number in range(nodes):
        state = "hurt" if number in hurt else "not hurt"
        there = PodBox("p", "p", "client", state, state, number in hurt, False, ())
        proxy = ProxyBox("node proxy", "x", "L4", "serves", number == target, 0)
        found.append(NodeBox(f"node-{number}", (there,) * pods, (proxy,)))
    return tuple(found)


def test_of_a_hundred_nodes_the_targets_and_those_with_hurt_pods_are_drawn_and_the_rest_is_a_line_each() -> None:
    drawn, lines = fold(many_nodes(100, 5, hurt={3, 70, 99}, target=50))
    assert len(drawn) == MOST_NODES
    assert {"node-3", "node-50", "node-70", "node-99"} <= {box.name for box in drawn}
    assert [int(box.name[5:]) for box in drawn] == sorted(int(box.name[5:]) for box in drawn)
    assert len(lines) == 100 - MOST_NODES
    assert {(one.pods, one.hurt, one.behind, one.proxies) for one in lines} == {(5, 0, 0, 1)}
    everybody, rest = fold(many_nodes(100, 5, hurt=set(range(100)), target=50))
    assert "node-50" in {box.name for box in everybody}
    assert sum(line.hurt for line in rest) == 5 * (100 - MOST_NODES)


@pytest.mark.parametrize(("nodes", "pods", "drawn"), [(12, 12, 12), (2, 75, 2), (13, 1, 12), (4, 60, 2), (3, 500, 1)])
def test_as_many_nodes_are_drawn_as_can_be_looked_at(nodes: int, pods: int, drawn: int) -> None:
    shown, lines = fold(many_nodes(nodes, pods, hurt=set()))
    assert (len(shown), len(shown) + len(lines)) == (drawn, nodes)


def test_a_page_of_a_hundred_nodes_stays_within_its_limit(tmp_path: Path) -> None:
    make_run(tmp_path, modes=("node",))
    run = read_run(tmp_path, seconds=1)
    sharing = read_sharing(run.trials[0].directory)
    assert sharing is not None
    more = [
        replace(pod, name=f"{pod.name}-{number}", uid=f"{pod.uid}-{number}", node=f"worker-{number}")
        for number in range(100)
        for pod in sharing.pods
    ]
    proxies = [replace(sharing.proxies[0], pod=f"x-{n}", node=f"worker-{n}", key=f"worker-{n}") for n in range(100)]
    large = replace(sharing, pods=(*sharing.pods, *more), proxies=(*sharing.proxies, *proxies))
    text = page(run, [large])
    assert len(text.encode()) < LIMIT
    assert text.count('<section class="node"') == MOST_NODES
    assert re.search(r"90 more nodes with 8\d\d pods, of which", text)
    outline(text)


def test_which_trials_and_flows_are_shown_can_be_chosen(text: str) -> None:
    """By style alone: each choice has a rule, and each rule names what is there."""
    choices = set(re.findall(r'<input type="radio" name="\w+" id="([\w-]+)">', text))
    assert {name.partition("-")[0] for name in choices} == {"verdict", "mode", "flows"}
    assert set(re.findall(r"main:has\(#([\w-]+):checked\)", text)) == choices
    for what in ("verdict", "mode"):
        shown = set(re.findall(rf'<article [^>]*data-{what}="([\w-]+)"', text))
        assert shown <= {name.partition("-")[2] for name in choices if name.startswith(f"{what}-")}
    assert re.search(r'<tr class="flow[^"]*(harmed|contradiction)', text)


def test_a_run_without_a_trial_says_that_nothing_was_tested(tmp_path: Path) -> None:
    text = write_reports(make_run(tmp_path, modes=()), seconds=1).html.read_text()
    outline(text)
    assert "nothing was tested" in text


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2, 1.4.3)."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_in_light_and_in_dark(text: str) -> None:
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w+)", part)) for part in re.findall(r":root \{([^}]*)\}", text))
    assert set(light) == set(dark)
    pairs = [
        ("ink", "paper"),
        ("soft", "paper"),
        ("soft", "box"),
        ("link", "paper"),
        ("ink", "fail-box"),
        ("ink", "pass-box"),
        ("ink", "unsure-box"),
        ("pass", "pass-box"),
        ("fail", "fail-box"),
        ("unsure", "unsure-box"),
        ("soft", "pass-box"),
        ("soft", "fail-box"),
        ("soft", "unsure-box"),
        ("fail", "paper"),
    ]
    for colours in (light, dark):
        assert {
            pair: round(ratio, 2) for pair in pairs if (ratio := contrast(colours[pair[0]], colours[pair[1]])) < 4.5
        } == {}
    assert contrast("#777", "#fff") < 4.5 < contrast("#000", "#fff")


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("*not hurt* rests on 10 s", "<em>not hurt</em> rests on 10 s"),
        ("2 * 3 < 7", "2 * 3 &lt; 7"),
        ("*<b>* & *c*", "<em>&lt;b&gt;</em> &amp; <em>c</em>"),
    ],
)
def test_a_word_between_asterisks_is_emphasised_and_nothing_else_is_let_through(text: str, html: str) -> None:
    assert str(stressed(text)) == html


@pytest.mark.parametrize(
    ("share", "finding", "shown"),
    [
        (None, "inconclusive", ("nothing", "not judged", "")),
        (None, "not hurt", ("nothing", "not judged", "")),
        (None, "hurt", ("nothing", "hurt", "why")),
        (0.0, "inconclusive", ("not hurt", "inconclusive", "why")),
        (0.5, "hurt", ("hurt", "hurt", "why")),
    ],
)
def test_a_flow_of_which_nothing_is_predicted_leaves_no_doubt(
    share: float | None, finding: str, shown: tuple[str, str, str]
) -> None:
    whole = {"change": 0.0, "low": -1.0, "high": 1.0}
    row = _row({"flow": "a -> b", "expected_share": share, "finding": finding, "why": "why", "errors": whole}, {})
    assert (row.predicted, row.observed, row.why) == shown
    assert row.errors == "–"
