"""What becomes of the commands that run containers when something is wrong, and which packages an image gets."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.answers import EVERYTHING
from tests.containers.conftest import BARE
from tests.containers.stack import Stack, docker, environment, rendered
from tests.processes import processes_of, run

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def bare(template: Path) -> Iterator[Stack]:
    """A service of which nothing runs."""
    with rendered(template, "bare", BARE) as stack:
        yield stack


@pytest.fixture
def full(template: Path) -> Iterator[Stack]:
    """A service with every feature, of which nothing runs."""
    with rendered(template, "full", EVERYTHING) as stack:
        yield stack


def lock(stack: Stack, *options: str) -> None:
    done = run([find_uv_bin(), "lock", "--quiet", *options], stack.project, environment())
    assert done.returncode == 0, done.stderr


def test_a_failing_test_fails_the_command_which_removes_everything(bare: Stack) -> None:
    (bare.project / "tests" / "unit" / "test_wrong.py").write_text("def test_wrong() -> None:\n    assert not True\n")
    done = bare.make("test-integration", ARGS="tests/unit")

    assert done.returncode == 2
    assert "FAILED tests/unit/test_wrong.py::test_wrong" in done.stdout
    assert bare.all_of_the_tests() == []

    # What is tested is never an image of yesterday.
    (bare.project / "tests" / "unit" / "test_wrong.py").unlink()
    assert bare.make("test-integration", ARGS="tests/unit").returncode == 0


@pytest.mark.parametrize("running", [False, True], ids=["at-the-start", "while-they-run"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tests_that_are_interrupted_leave_nothing(bare: Stack, number: signal.Signals, running: bool) -> None:
    long = "import time\n\n\ndef test_long() -> None:\n    time.sleep(3600)\n"
    (bare.project / "tests" / "unit" / "test_long.py").write_text(long)
    process = bare.start("test-integration")
    try:
        container = ""
        while not container or (running and "collected" not in docker("logs", container)):
            assert process.poll() is None
            time.sleep(0.2)
            container = docker("ps", "--quiet", "--filter", f"name={bare.name}-test-api-test-run").strip()
        os.killpg(process.pid, number)
        assert process.wait() != 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert bare.all_of_the_tests() == []
    assert processes_of(str(bare.project)) == []


def test_an_image_has_the_packages_of_the_lock_file(bare: Stack) -> None:
    lock(bare, "--upgrade-package=idna==3.10")
    image = bare.build("service")
    version = docker("run", "--rm", image, "python", "-c", "import importlib.metadata as m; print(m.version('idna'))")

    assert version.strip() == "3.10"


def test_a_lock_file_that_no_longer_fits_ends_the_build(bare: Stack) -> None:
    lock(bare)
    configuration = bare.project / "pyproject.toml"
    end = "  # Your own dependencies"
    configuration.write_text(configuration.read_text().replace(end, f'  "idna>=3.9",\n{end}'))
    done = run(["docker", "build", "--quiet", "."], bare.project, environment(), timeout=600)

    assert done.returncode != 0
    assert "uv.lock" in done.stderr


def test_without_a_setting_it_ends_with_a_sentence(bare: Stack) -> None:
    done = run(["docker", "run", "--rm", bare.build("service")], Path.cwd(), environment())

    assert done.returncode == 2
    assert "DATABASE_URL Field required" in done.stderr


def test_the_tests_run_outside_on_these_servers_as_the_example_file_says(full: Stack) -> None:
    example = (full.project / ".env.test.example").read_text()
    script = "\n".join(re.findall(r"^#   (.*)$", example, re.MULTILINE))
    path = f"{environment()['PATH']}:{Path(find_uv_bin()).parent}"
    done = run(["sh", "-ec", script], full.project, environment(PATH=path), timeout=600)

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert re.search(r"^database: .*@127\.0\.0\.1:5433/postgres$", done.stdout, re.MULTILINE)
    assert re.search(r"=+ \d+ passed, \d+ deselected in", done.stdout)
    assert full.all_of_the_tests() == []
