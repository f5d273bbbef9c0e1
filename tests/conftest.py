"""The fixtures of all tests: a copy of the template to render from, and its renders."""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.checkout import isolate_git

# Before Copier is imported: it copies the environment that it later runs git in.
isolate_git()
for name in [name for name in os.environ if name.startswith(("COPIER_", "PYTEST_"))]:
    del os.environ[name]

from tests.answers import RENDERS
from tests.processes import make_open_folder
from tests.template import clone_template, render


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
def workshop() -> Iterator[Path]:
    """A folder that every user may enter, with a path short enough for sockets; it is removed at the end."""
    folder = make_open_folder(Path(tempfile.gettempdir()))
    yield folder
    shutil.rmtree(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many updates ran, and from which releases."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    updates = Counter(
        value
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == "update"
    )
    if updates:
        releases = ", ".join(f"{count} from {release}" for release, count in sorted(updates.items()))
        terminalreporter.write_line(f"{updates.total()} updates of projects ran: {releases}")
