"""Stacks that run: those of the full render and the bare one, on each PostgreSQL and each Python."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answers import EVERYTHING, Answers
from tests.containers.stack import Stack, environment, rendered
from tests.processes import run

BARE: Answers = {"example": False, "auth": "none", "object_storage": False, "ci": "none"}
STACKS = {
    "full-pg18-py314": EVERYTHING | {"postgres_version": "18", "python_version": "3.14"},
    "full-pg17-py313": EVERYTHING | {"postgres_version": "17", "python_version": "3.13"},
    "bare-pg17-py314": BARE | {"postgres_version": "17", "python_version": "3.14"},
    "bare-pg18-py313": BARE | {"postgres_version": "18", "python_version": "3.13"},
}


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """The engine, without which there is nothing to test here."""
    try:
        done = run(["docker", "info"], Path.cwd(), environment())
    except FileNotFoundError:
        pytest.exit("The tests of the containers need Docker, which is not installed here.", returncode=1)
    if done.returncode:
        pytest.exit(f"The tests of the containers need Docker, which does not answer:\n{done.stderr}", returncode=1)


@pytest.fixture(scope="module", params=STACKS)
def stack(request: pytest.FixtureRequest, template: Path) -> Iterator[Stack]:
    """A service that is up in containers, in a checkout that has secrets in it."""
    with rendered(template, request.param, STACKS[request.param]) as stack:
        stack.hide_secrets()
        done = stack.make("up")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
        yield stack
