"""Features are switched off and on in projects that are edited, and whose database is deployed."""

import re
from collections.abc import Iterator

import pytest

from tests.answers import EVERYTHING, Answers
from tests.generated.changes import heads
from tests.generated.postgres import Server
from tests.generated.test_checks import assert_green
from tests.generated.updates.conftest import MakeProject
from tests.generated.updates.project import FreshRender, Project, answers_of

NOTHING: Answers = {"example": False, "auth": "none", "object_storage": False, "ci": "none"}
# Together with everything and nothing, every answer of every feature is given and taken back.
THESE: Answers = {"example": True, "auth": "api_key", "ci": "gitlab"}
THOSE: Answers = {"example": False, "auth": "jwt", "ci": "github"}
EDITS = ["a dependency", "a development dependency", "a feature", "a setting", "a README of its own", "Make targets"]


@pytest.fixture
def deployed(own_server: Server) -> Iterator[str]:
    """The URL of a database that is nobody's yet."""
    own_server.run("CREATE DATABASE deployed")
    yield own_server.url("deployed")
    own_server.run("DROP DATABASE deployed")


def migrations(project: Project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in project.path.glob("alembic/versions/*.py")}


def make(project: Project, target: str, **variables: str) -> str:
    done = project.service.make(target, **variables)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def switch(project: Project, answers: Answers, database: str, fresh_render: FreshRender) -> None:
    """Give other answers, and do what docs/template.md says. Nothing that may be applied is changed meanwhile."""
    before = migrations(project)

    make(project, "template-update", ARGS=" ".join(f"--data {name}={answer}" for name, answer in answers.items()))

    assert answers.items() <= answers_of(project.path).items()
    project.assert_nothing_lost(fresh_render)
    assert before.items() <= migrations(project).items()
    make(project, "migration", m=f"follow {answers}", DATABASE_URL=database)
    make(project, "migrate", DATABASE_URL=database)
    make(project, "migration-check", DATABASE_URL=database)
    assert len(heads(project.path)) == 1
    project.settle(fresh_render)


def test_features_are_exchanged_for_others_and_back(
    make_project: MakeProject, fresh_render: FreshRender, deployed: str
) -> None:
    project = make_project(**THESE)
    project.edit(*EDITS)
    make(project, "migrate", DATABASE_URL=deployed)

    switch(project, THOSE, deployed, fresh_render)
    switch(project, THESE, deployed, fresh_render)


def test_all_features_come_and_go_in_a_project_with_migrations_of_its_own(
    make_project: MakeProject, fresh_render: FreshRender, deployed: str
) -> None:
    project = make_project(**NOTHING)
    project.edit(*EDITS)
    make(project, "migrate", DATABASE_URL=deployed)
    own = migrations(project)
    tests = project.path / "tests" / "integration" / "test_invoices.py"

    switch(project, EVERYTHING, deployed, fresh_render)
    arrived = [name for name in migrations(project).keys() - own.keys() if name.startswith("000")]
    tests.write_text(re.sub(r"\bclient\b", "authed_client", tests.read_text()))  # It takes somebody who may write.
    with_features = project.service.make("check")
    tests.write_text(re.sub("authed_client", "client", tests.read_text()))
    switch(project, NOTHING, deployed, fresh_render)
    without_them = project.service.make("check")
    switch(project, EVERYTHING, deployed, fresh_render)

    assert len(arrived) == 4
    assert_green(with_features)
    assert_green(without_them)
