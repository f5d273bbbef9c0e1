"""`make validate`: what it reports, and with which exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.template import ROOT
from tools import validate

EVERY_KIND = "\n".join(f"    record_property({kind!r}, '<b>{kind}</b>')" for kind in validate.KINDS)
GOOD = f"def test_it(record_property):\n{EVERY_KIND}\n"
NOT_NOTED = "def test_it():\n    pass\n"
BAD = f"{GOOD}    assert False, '<script>'\n"
BROKEN = "import nothing_of_that_name\n"
EMPTY = ""
ONE_MISSING = GOOD.replace("record_property('drill'", "print('drill'")


def run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Validate with one stage, which has one test. Returns the exit code."""
    (tmp_path / "test_it.py").write_text(text)
    monkeypatch.setattr(validate, "STAGES", {"Rendering": [str(tmp_path / "test_it.py")]})
    monkeypatch.setattr(sys, "argv", ["validate", "--report", str(tmp_path / "report"), *arguments])
    return validate.main()


def report(tmp_path: Path) -> dict[str, object]:
    return dict(json.loads((tmp_path / "report" / "report.json").read_text()))


def test_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(GOOD, tmp_path, monkeypatch) == 0

    found = report(tmp_path)
    assert found["outcome"] == "passed"
    assert found["tests"] == {"passed": 1, "failed": 0, "skipped": 0}
    assert found["counts"] == dict.fromkeys(validate.KINDS, 1)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "&lt;b&gt;drill&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "http" not in page


@pytest.mark.parametrize(
    ("text", "name"),
    [(BAD, "test_it.py::test_it"), (BROKEN, "test_it"), (EMPTY, "FAILED Rendering")],
)
def test_what_fails_is_named(
    text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(text, tmp_path, monkeypatch) == validate.FAILED

    (failed,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED ")]
    assert name in failed
    assert report(tmp_path)["outcome"] == "failed"
    page = (tmp_path / "report" / "report.html").read_text()
    assert "What failed" in page
    assert "<script" not in page


def test_a_run_that_proves_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(NOT_NOTED, tmp_path, monkeypatch) == validate.NOTHING_RAN
    assert "This proves nothing: there were no sets of answers rendered and no " in capsys.readouterr().err


def test_a_run_without_one_kind_fails_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ONE_MISSING, tmp_path, monkeypatch) == validate.NOTHING_RAN
    assert "This proves nothing: there were no drills.\n" in capsys.readouterr().err


def test_a_single_stage_need_not_have_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(NOT_NOTED, tmp_path, monkeypatch, "--only=Rendering") == 0


def test_a_stage_that_does_not_exist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(GOOD, tmp_path, monkeypatch, "--only=Nothing")


@pytest.mark.parametrize(
    ("text", "code"),
    [(GOOD, 0), (NOT_NOTED, validate.NOTHING_RAN), (ONE_MISSING, validate.NOTHING_RAN), (BAD, 1)],
)
def test_make_test_fails_if_nothing_of_a_kind_ran(text: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "--whole", "-n", "1", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == code, done.stdout + done.stderr
    assert " drills, " in done.stdout


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.26, "0.3 s"), (59.4, "59.4 s"), (60, "1:00 min"), (1234.5, "20:34 min")]
)
def test_a_time_is_said_as_people_say_it(seconds: float, words: str) -> None:
    assert validate.duration(seconds) == words
