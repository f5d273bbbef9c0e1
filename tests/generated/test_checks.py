"""What a rendered service says about itself: its own checks and tests, as its developer runs them."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.answers import EVERYTHING, PAIRS, Answers
from tests.generated.conftest import MakeService
from tests.generated.service import Service
from tests.processes import Account, interpreters, plain_environment, processes_of, run
from tests.template import render

PYTHONS = interpreters()


def assert_green(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert int((re.search(r"(\d+) passed", done.stdout) or ["0", "0"])[1]) > 20, done.stdout
    assert not re.search(r"\d+ (skipped|xfailed|xpassed|error|warning)", done.stdout), done.stdout


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, "30 passed"),
        (0, ""),
        (0, "20 passed"),
        *((0, f"30 passed, 1 {word}") for word in ("skipped", "xfailed", "xpassed", "error", "warning")),
    ],
)
def test_a_suite_that_proves_nothing_is_not_green(code: int, said: str) -> None:
    with pytest.raises(AssertionError):
        assert_green(subprocess.CompletedProcess([], code, said, ""))


@pytest.mark.validate
def test_everything_a_pull_request_needs_is_green_twice_in_different_orders(service: Service) -> None:
    for seed in ("1", "4711"):
        assert_green(service.make("check", PYTEST_ADDOPTS=f"--randomly-seed={seed}"))


def test_everything_a_pull_request_needs_is_green_with_two_workers(service: Service) -> None:
    assert_green(service.make("check", PYTEST_ADDOPTS="-n 2"))


@pytest.mark.parametrize("example", [True, False])
def test_everything_a_pull_request_needs_is_green_for_an_ordinary_user(
    example: bool, make_service: MakeService
) -> None:
    service = make_service(Account.ordinary(), example=example)
    assert_green(service.make("check"))
    assert {path.owner() for path in service.project.rglob("*")} == {service.project.owner()}


def test_unit_tests_need_no_server(service: Service) -> None:
    done = service.make("test-unit", TEST_DATABASE_URL="postgresql+asyncpg://nobody@127.0.0.1:1/x_test")
    assert_green(done)


def test_a_fresh_render_in_a_closed_folder_passes_its_tests_with_nothing_prepared(
    template: Path, tmp_path: Path
) -> None:
    home = Path(tempfile.mkdtemp(prefix="closed-"))  # Only its owner may enter it.
    project = home / "my-service"
    try:
        command: list[str | Path] = [sys.executable, "-m", "copier", "copy", "--defaults", "--vcs-ref=HEAD"]
        assert run([*command, template, project], home, plain_environment()).returncode == 0
        done = run(["make", "test"], project, plain_environment(TMPDIR=str(tmp_path)))
        assert_green(done)
        assert processes_of(str(home)) == []
        assert list(tmp_path.glob("pg-*")) == []
    finally:
        shutil.rmtree(home)


@pytest.mark.validate
@pytest.mark.parametrize(("version", "row"), list(zip(PYTHONS, (EVERYTHING, *PAIRS.values()), strict=False)))
def test_each_python_installs_a_render_and_passes_its_tests(
    version: str, row: Answers, template: Path, workshop: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("combination", json.dumps({"what": f"installed by Python {version}", "answers": row}))
    folder = workshop / "pythons" / version
    try:
        project = render(template, folder / "my-service", **row)
        done = run(["make", "check"], project, plain_environment(UV_PYTHON=str(PYTHONS[version])))
        assert_green(done)
    finally:
        shutil.rmtree(folder)
