"""Projects of every release, and the template whose newest release is the checkout as it is."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.answers import Answers
from tests.generated.service import Toolbox
from tests.generated.updates.project import FreshRender, Project
from tests.template import NEWEST, release_template, render

MakeProject = Callable[..., Project]
Update = Callable[[Project, str], None]


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this repository that has released the checkout as it is now."""
    return release_template(tmp_path_factory.mktemp("released") / "copier-fastapi-postgres")


@pytest.fixture(scope="session")
def fresh_render(released: Path, tmp_path_factory: pytest.TempPathFactory) -> FreshRender:
    """Renders the checkout as it is now, once for the same answers."""
    folder, made = tmp_path_factory.mktemp("fresh"), dict[str, Path]()

    def make(answers: Answers) -> Path:
        key = repr(sorted(answers.items()))
        if key not in made:
            made[key] = render(released, folder / str(len(made)) / "my-service", **answers)
        return made[key]

    return make


@pytest.fixture
def make_project(released: Path, workshop: Path, toolbox: Toolbox) -> Iterator[MakeProject]:
    """Render a project from a release, by default from the checkout as it is now; it is removed after the test."""
    folder, numbers = workshop / "projects", itertools.count()
    folder.mkdir()

    def make(release: str = NEWEST.removeprefix("v"), template: Path = released, **answers: Any) -> Project:
        return Project.begin(template, release, folder / str(next(numbers)) / "my-service", toolbox, answers)

    yield make
    shutil.rmtree(folder)


@pytest.fixture
def update(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Update:
    """Updates a project that a release has rendered, and notes it for the line at the end of the tests."""

    def run(project: Project, release: str) -> None:
        project.update()
        project.line_up_migrations()
        record_property("update", f"from {release}: {request.node.name}")

    return run
