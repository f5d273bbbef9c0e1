"""The fixtures of all tests: a copy of the template to render from, and its renders."""

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from tools.checkout import isolate_git

# Before Copier is imported: it copies the environment that it later runs git in.
isolate_git()
for name in [name for name in os.environ if name.startswith(("COPIER_", "PYTEST_"))]:
    del os.environ[name]

from tests.answers import RENDERS
from tests.processes import make_open_folder
from tests.template import clone_template, render
from tools.validate import KINDS, NOTHING_RAN, said


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this repository with its tags, whose last commit is the checkout as it is now."""
    return clone_template(tmp_path_factory.mktemp("template") / "copier-fastapi-postgres")


@pytest.fixture(scope="session")
def renders(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One render for each set of answers, for tests that only read."""
    folder = tmp_path_factory.mktemp("renders")
    return {name: render(template, folder / name / "my-service", **answers) for name, answers in RENDERS.items()}


@pytest.fixture(params=RENDERS)
def a_render(request: pytest.FixtureRequest, renders: dict[str, Path]) -> Path:
    """Each of the renders in turn."""
    return renders[request.param]


@pytest.fixture(scope="session")
def workshop(worker_id: str) -> Iterator[Path]:
    """A folder that every user may enter, with a path short enough for sockets; it is removed at the end."""
    folder = Path(tempfile.gettempdir()) / worker_id
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make test` say that this is to be everything."""
    parser.addoption("--whole", action="store_true", help="fail if nothing of one of the kinds of tests ran")


def interrupt(number: int, frame: FrameType | None) -> None:
    """End as on Ctrl-C. Whoever tells all processes to, and `make validate`, may say so twice."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.default_int_handler(number, frame)


def pytest_configure(config: pytest.Config) -> None:
    """Clean up however the tests end: told to end, they do so as they do on Ctrl-C.

    Whatever is temporary is in one folder, which goes after the last worker has gone: that may have had no time for it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    if not hasattr(config, "workerinput"):
        folder = make_open_folder(Path(tempfile.gettempdir()))
        folder.chmod(0o1777)  # Also for what runs as another user.
        config.add_cleanup(partial(shutil.rmtree, folder))
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)  # For the workers, and for this process.
        config.option.basetemp = config.option.basetemp or folder / "pytest"


def notes(config: pytest.Config) -> Counter[str]:
    """Count what the tests have noted of themselves, by kind."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = [report for reports in reporter.stats.values() for report in reports] if reporter else []
    called = [report for report in reports if getattr(report, "when", "") == "call"]
    return Counter(name for report in called for name, _ in report.user_properties if name in KINDS)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Take it for a failure if everything was to run and there was nothing of a kind."""
    controls = not hasattr(session.config, "workerinput")
    if controls and not exitstatus and session.config.getoption("whole") and set(KINDS) - set(notes(session.config)):
        session.exitstatus = NOTHING_RAN


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how much of each kind ran."""
    counts = notes(config)
    if counts or config.getoption("whole"):
        terminalreporter.write_line(said({name: counts[kind] for kind, name in KINDS.items()}))
