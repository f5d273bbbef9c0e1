"""The tests are told to end: whenever that is, nothing of them is left."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import make_open_folder, plain_environment, processes_of
from tests.template import ROOT

# What is running at the moment of the interruption, as the command line of a process shows it.
MOMENTS = ("-m pytest", "uv sync", "pytest --cov")
PATIENCE = 120


def end(number: signal.Signals, moment: str, *command: str, everybody: bool = True) -> None:
    """Run a command of make, tell it - or `everybody` - to end when something is running, and look what is left."""
    folder = make_open_folder(Path("/tmp"))
    process = subprocess.Popen(
        ["make", *command],
        cwd=ROOT,
        env=plain_environment(TMPDIR=str(folder)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        give_up = time.monotonic() + PATIENCE
        while not any(moment in command for command in processes_of(str(folder))) and process.poll() is None:
            assert time.monotonic() < give_up, processes_of(str(folder))
            time.sleep(0.1)
        (os.killpg if everybody else os.kill)(process.pid, number)
        process.wait(PATIENCE)

        assert process.returncode == -number
        assert processes_of(str(folder)) == []
        assert list(folder.iterdir()) == []
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    folder.rmdir()


@pytest.mark.validate
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_is_left_of_the_tests(moment: str, number: signal.Signals) -> None:
    end(number, moment, "test", "ARGS=tests/generated/test_features.py")


@pytest.mark.validate
@pytest.mark.parametrize(
    ("number", "everybody"), [(signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGTERM, False)]
)
def test_nothing_is_left_of_the_validation(number: signal.Signals, everybody: bool) -> None:
    end(number, "uv sync", "validate", "ARGS=--only Services", everybody=everybody)
