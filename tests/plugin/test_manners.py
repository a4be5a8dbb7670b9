"""The plugin as a guest: in a repository with tests of its own, with scenarios of its own, with a package `chaos` of
its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

OWN_TESTS = "def test_one(): pass\n\ndef test_two(): pass\n"
OWN_SCENARIO = '''
from sharedfate import Kill, Trial, scenario


@scenario("proxy-resets", faults=(Kill,))
def proxy_resets(trial: Trial) -> None:
    """A proxy that resets its connections hurts those behind it."""
'''
PROGRAMS = {"pytest": (str(Path(sys.executable).with_name("pytest")),), "python -m": (sys.executable, "-m", "pytest")}


def ran(where: Path, *arguments: str, program: str = "pytest") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAMS[program], *arguments, "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        cwd=where,
        check=False,
    )


def collected(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line]


@pytest.mark.parametrize(
    ("option", "how"),
    [("--chaos-modes=node", "option"), ("--chaos-scenarios=proxy-killed", "option"), ("--chaos-modes=all", "addopts")],
)
def test_a_chaos_option_leaves_the_tests_of_a_repository_what_they_are(tmp_path: Path, option: str, how: str) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mine.py").write_text(OWN_TESTS)
    configured = f"addopts = {option}\n" if how == "addopts" else ""
    (tmp_path / "pytest.ini").write_text(f"[pytest]\ntestpaths = tests\n{configured}")
    done = ran(tmp_path, "--collect-only", "-q", *([option] if how == "option" else []))
    assert collected(done) == ["test_one", "test_two"], done.stdout


def test_whoever_gives_an_option_where_no_test_takes_it_is_told_where_the_suite_is(tmp_path: Path) -> None:
    done = ran(tmp_path, "--chaos-modes=node")
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "its own suite: sharedfate run, or pytest --pyargs chaos.suite" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "items"),
    [
        (("--chaos-modes=sidecar,node",), ["proxy-resets[sidecar]", "proxy-resets[node]"]),
        (("--chaos-modes=node", "--chaos-scenarios=proxy-resets"), ["proxy-resets[node]"]),
        (("--chaos-modes=node", "--chaos-scenarios=all"), ["proxy-resets[node]"]),
        (("--chaos-modes=node", "--chaos-scenarios=proxy-killed"), []),
        (("--chaos-modes=node", "-k", "resets"), ["proxy-resets[node]"]),
    ],
)
def test_a_scenario_of_ones_own_is_collected_and_named(
    tmp_path: Path, arguments: tuple[str, ...], items: list[str]
) -> None:
    (tmp_path / "test_mine.py").write_text(OWN_SCENARIO)
    done = ran(tmp_path, "--collect-only", "-q", *arguments)
    assert collected(done) == items, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "hook"),
    [(("--trace",), ""), ((), "def pytest_pyfunc_call(pyfuncitem):\n    return True\n")],
    ids=["the debugger, and nobody at the keyboard", "a hook of the repository"],
)
def test_a_scenario_that_something_else_took_the_place_of_is_no_pass(
    tmp_path: Path, options: tuple[str, ...], hook: str
) -> None:
    (tmp_path / "test_mine.py").write_text(OWN_SCENARIO)
    no_cluster = "import pytest\n\n@pytest.fixture(scope='session')\ndef chaos_run(): pass\n\n"
    (tmp_path / "conftest.py").write_text(no_cluster + hook)
    done = ran(tmp_path, "--chaos-modes=node", *options)
    assert "proxy-resets[node] was not tried: a plugin or an option of pytest took its place" in done.stdout
    assert "1 error" in done.stdout
    assert done.returncode == pytest.ExitCode.USAGE_ERROR


def test_a_scenario_that_no_file_defines_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(OWN_SCENARIO)
    done = ran(tmp_path, "--chaos-scenarios=proxy-rests")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unknown scenario 'proxy-rests': known are" in done.stderr
    assert "proxy-resets" in done.stderr


def test_two_scenarios_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("test_one.py", "test_two.py"):
        (tmp_path / name).write_text(OWN_SCENARIO)
    done = ran(tmp_path, "--collect-only", "-q", "--chaos-modes=node")
    assert "scenario 'proxy-resets' already exists, in" in done.stdout


@pytest.mark.parametrize(
    ("program", "shape", "layout"),
    [
        ("pytest", "package", "top"),
        ("python -m", "package", "top"),
        ("pytest", "package", "src"),
        ("python -m", "module", "top"),
    ],
)
def test_a_package_called_chaos_of_a_repository_is_its_own(
    tmp_path: Path, program: str, shape: str, layout: str
) -> None:
    home = tmp_path if layout == "top" else tmp_path / "src"
    home.mkdir(exist_ok=True)
    if shape == "package":
        (home / "chaos").mkdir()
        (home / "chaos" / "__init__.py").write_text("MINE = 1\n")
        (home / "chaos" / "errors.py").write_text("OWN = 2\n")
        body = "from chaos import MINE\nfrom chaos.errors import OWN\n\ndef test_it(): assert (MINE, OWN) == (1, 2)\n"
    else:
        (home / "chaos.py").write_text("MINE = 1\n")
        body = "import chaos\n\ndef test_it(): assert chaos.MINE == 1\n"
    (tmp_path / "test_it.py").write_text(body)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {home}\nfilterwarnings = error\n")
    done = ran(tmp_path, program=program)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sharedfate: left out beside this repository's own package 'chaos'" in done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("files", "imports"),
    [
        ({"chaos/__init__.py": "", "chaos/mine.py": "VALUE = 3\n"}, "from chaos.mine import VALUE"),
        ({"chaos/__init__.py": "VALUE = 3\n"}, "from chaos import VALUE"),
        (
            {"chaos/__init__.py": "from chaos.mine import VALUE\n", "chaos/mine.py": "VALUE = 3\n"},
            "from chaos import VALUE",
        ),
        ({"chaos.py": "VALUE = 3\n"}, "import chaos; VALUE = chaos.VALUE"),
    ],
)
def test_beside_such_a_package_a_chaos_option_brings_the_plugin_in_and_what_it_holds_is_found_behind_ours(
    tmp_path: Path, program: str, files: dict[str, str], imports: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "test_it.py").write_text(f"{OWN_SCENARIO}\n\ndef test_it():\n    {imports}\n    assert VALUE == 3\n")
    done = ran(tmp_path, "--collect-only", "-q", "--chaos-modes=node", program=program)
    assert set(collected(done)) == {"proxy-resets[node]", "test_it"}, done.stdout + done.stderr
    assert ran(tmp_path, "--chaos-modes=node", "-k", "test_it and not resets", program=program).returncode == 0


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_folder_of_experiments_called_chaos_hides_nothing(tmp_path: Path, program: str) -> None:
    (tmp_path / "chaos").mkdir()
    (tmp_path / "chaos" / "kill.yaml").write_text("title: an experiment\n")
    (tmp_path / "test_mine.py").write_text(OWN_SCENARIO)
    done = ran(tmp_path, "--collect-only", "-q", "--chaos-modes=node", program=program)
    assert collected(done) == ["proxy-resets[node]"], done.stdout + done.stderr


def test_plain_pytest_imports_nothing_of_the_engine(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import sys\n\ndef test_it(): assert not [name for name in sys.modules if name.startswith('chaos.engine')]\n"
    )
    assert ran(tmp_path).returncode == 0


def test_the_command_runs_the_suite_in_a_folder_with_such_a_package(tmp_path: Path) -> None:
    (tmp_path / "chaos").mkdir()
    (tmp_path / "chaos" / "__init__.py").write_text("raise RuntimeError('not this one')\n")
    program = Path(sys.executable).with_name("sharedfate")
    command = [str(program), "run", "--modes", "node", "--scenarios", "proxy-killed", "--", "--collect-only"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert collected(done) == ["proxy-killed[node]"], done.stdout + done.stderr


TWO = "proxy-killed,noisy-neighbour"


@pytest.mark.parametrize(
    ("scenarios", "order"),
    [(TWO, TWO.split(",")), (",".join(reversed(TWO.split(","))), list(reversed(TWO.split(","))))],
)
def test_trials_come_mode_by_mode_in_the_order_in_which_scenarios_were_named(
    tmp_path: Path, scenarios: str, order: list[str]
) -> None:
    options = ("--chaos-modes=node,none", f"--chaos-scenarios={scenarios}")
    done = ran(tmp_path, "--pyargs", "chaos.suite", "--collect-only", "-q", *options)
    assert collected(done) == [f"{one}[{mode}]" for mode in ("node", "none") for one in order], done.stdout


ONES_OWN = "def test_it(mesh, load, tenants, trial, new_trial, verdict, faults, cluster): pass\n"


@pytest.mark.parametrize(
    ("asked", "items"), [(True, ["test_it[node]", "test_it[sidecar]"]), (False, ["test_it"])], ids=["asked", "not"]
)
def test_fixtures_have_short_names_where_a_repository_asks_for_them(
    tmp_path: Path, asked: bool, items: list[str]
) -> None:
    (tmp_path / "test_mine.py").write_text(ONES_OWN)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["sharedfate.short_names"]\n' if asked else "")
    done = ran(tmp_path, "--collect-only", "-q", "--chaos-modes=node,sidecar")
    assert sorted(collected(done)) == items, done.stdout + done.stderr


def test_each_fixture_for_tests_has_a_short_name() -> None:
    from chaos.plugin import fixtures
    from sharedfate import short_names

    prefixed = {name.removeprefix("chaos_") for name in vars(fixtures) if name.startswith("chaos_")} - {"run"}
    assert prefixed == {name for name, one in vars(short_names).items() if callable(one) and name.islower()}
