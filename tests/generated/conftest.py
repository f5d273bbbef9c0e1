"""Rendered services that run: one environment for all of them, and a PostgreSQL of the tests' own."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.answers import EVERYTHING
from tests.generated.postgres import Server
from tests.generated.service import Service, Toolbox, make_toolbox
from tests.processes import Account, plain_environment
from tests.template import render


@pytest.fixture(scope="session")
def toolbox(template: Path, workshop: Path) -> Toolbox:
    """Everything that a rendered service needs to run, installed once."""
    return make_toolbox(render(template, workshop / "toolbox" / "my-service", **EVERYTHING), workshop / "toolbox")


MakeService = Callable[..., Service]


@pytest.fixture
def make_service(template: Path, workshop: Path, toolbox: Toolbox) -> Iterator[MakeService]:
    """Render a service that can run at once; it is removed after the test."""
    folder = workshop / "services"
    folder.mkdir()

    def make(account: Account | None = None, **answers: Any) -> Service:
        account = account or Account()
        project = render(template, folder / "my-service", **answers)
        account.own(folder)
        return Service(project, toolbox, account)

    yield make
    shutil.rmtree(folder)


@pytest.fixture
def service(make_service: MakeService) -> Service:
    """A service with the default answers."""
    return make_service()


@pytest.fixture(scope="session")
def own_server(toolbox: Toolbox) -> Iterator[Server]:
    """A PostgreSQL that a developer might have, and name in TEST_DATABASE_URL."""
    process = subprocess.Popen(
        [toolbox.python, "-m", "dev.postgres"],
        cwd=toolbox.project,
        env=plain_environment(**toolbox.variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        yield Server(process.stdout.readline().strip())
    finally:
        process.communicate(timeout=30)  # It lives until its input ends.
