"""Whatever people do to their projects, an update applies without a conflict, loses nothing, and the suite is green."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.answers import EVERYTHING, Answers
from tests.generated.changes import heads
from tests.generated.test_checks import assert_green
from tests.generated.updates.conftest import MakeProject, Update
from tests.generated.updates.editing import EDITS
from tests.generated.updates.project import FreshRender, answers_of, commit, files_of
from tests.template import RELEASES, ROOT, git

REPRESENTATIVE: dict[str, Answers] = {
    "defaults": {"example": True},
    "everything": EVERYTHING,
    "the rest": {"example": False, "auth": "api_key", "object_storage": True, "ci": "gitlab", "postgres_version": "16"},
    "no CI": {"example": True, "ci": "none"},
}
# Of these one project can do only one.
EXCLUSIVE = ("an example that went away", "an example that became something else")


def known_answers(release: str, answers: Answers) -> Answers:
    """Return the answers to the questions that a release asked."""
    asked = yaml.safe_load(git(ROOT, "show", f"{RELEASES[release]}:copier.yml"))
    return {question: answer for question, answer in answers.items() if question in asked}


def left_out(name: str) -> str:
    """Return which of the exclusive edits is not made where the answers have this name."""
    return EXCLUSIVE[list(REPRESENTATIVE).index(name) % 2]


def projects() -> Iterator[tuple[str, str]]:
    """Yield each release with the names of the answers, and of what is left out, that make a difference to it."""
    for release in RELEASES:
        different = {
            (repr(known_answers(release, answers)), answers["example"] and left_out(name)): name
            for name, answers in reversed(REPRESENTATIVE.items())
        }
        yield from ((release, name) for name in reversed(different.values()))


PROJECTS = list(projects())
QUICK_TESTS = ("test_health.py", "test_http.py", "test_migrations.py")
QUICK = {"PYTEST_ADDOPTS": " ".join(["--cov-fail-under=0", *(f"tests/integration/{name}" for name in QUICK_TESTS)])}
"""Some of a project's tests, where all of them run with other answers."""


def edits_of(release: str, name: str, answers: Answers) -> list[str]:
    """Return what is done to a project that a release rendered with these answers, one of REPRESENTATIVE."""
    return [edit for edit in EDITS if EDITS[edit].fits(release, answers) and edit != left_out(name)]


def test_every_edit_is_made_in_one_of_the_projects_of_every_release_that_promises_it() -> None:
    made = {
        (release, edit)
        for release, name in PROJECTS
        for edit in edits_of(release, name, {"ci": "none"} | known_answers(release, REPRESENTATIVE[name]))
    }
    assert made == {(release, edit) for release in RELEASES for edit in EDITS if EDITS[edit].promised(release)}


@pytest.mark.parametrize(
    ("release", "name", "settings"),
    [
        *((release, name, {} if name == "everything" else QUICK) for release, name in PROJECTS),
        *(
            pytest.param(release, name, {}, marks=pytest.mark.validate)
            for release, name in PROJECTS
            if name != "everything"
        ),
    ],
    ids=lambda part: part if isinstance(part, str) else "all" if not part else "quick",
)
def test_an_update_of_an_edited_project_loses_nothing_and_is_green(
    release: str,
    name: str,
    settings: dict[str, str],
    make_project: MakeProject,
    fresh_render: FreshRender,
    update: Update,
) -> None:
    project = make_project(release, **known_answers(release, REPRESENTATIVE[name]))
    answers = {"ci": "none"} | answers_of(project.path)
    project.edit(*edits_of(release, name, answers))

    update(project, release)

    project.assert_nothing_lost(fresh_render)
    assert_green(project.service.make("check", **settings))
    commit(project.path, "Update")
    update(project, release)
    assert git(project.path, "status", "--porcelain") == ""


@pytest.mark.parametrize(("release", "name"), PROJECTS)
def test_an_update_of_an_unedited_project_makes_a_fresh_render_of_it(
    release: str, name: str, make_project: MakeProject, fresh_render: FreshRender, update: Update
) -> None:
    project = make_project(release, **known_answers(release, REPRESENTATIVE[name]))

    update(project, release)

    project.assert_nothing_lost(fresh_render)


@pytest.mark.parametrize("release", [release for release in RELEASES if release in ("0.2.0", "0.3.0")])
def test_a_migration_that_came_later_arrives_once(release: str, make_project: MakeProject, update: Update) -> None:
    late = "0004_file_owners.py"
    project = make_project(release, example=False, auth="api_key", object_storage=True)
    update(project, release)
    (arrived,) = project.path.glob(f"alembic/versions/{late}")
    assert heads(project.path) == ["0004_file_owners"]

    # Its owner squashes the migrations, and updates again.
    for migration in project.path.glob("alembic/versions/*.py"):
        migration.unlink()
    commit(project.path, "Squash")
    update(project, release)

    assert not arrived.exists()
    assert git(project.path, "status", "--porcelain") == ""


ROUTER, MIGRATION = "app/health/router.py", "alembic/versions/0001_projects_and_tasks.py"
MIGRATION_OF_ITS_OWN = """revision = "1"\ndown_revision = None\n"""


def put(project: Path, files: dict[str, str | None]) -> None:
    """Write files; None deletes one."""
    for path, text in files.items():
        if text is None:
            (project / path).unlink()
        else:
            (project / path).write_text(text)


@pytest.mark.parametrize(
    ("edited", "updated", "complaint"),
    [
        ({ROUTER: "ours\n"}, {ROUTER: "theirs\n"}, f"{ROUTER} lost the line 'ours'"),
        ({ROUTER: "ours\n"}, {ROUTER: "ours\nfrom pydantic import BaseModel\n"}, f"{ROUTER} has the line "),
        ({ROUTER: "ours\n"}, {ROUTER: None}, f"{ROUTER} was edited and is gone"),
        ({ROUTER: None}, {ROUTER: "theirs\n"}, f"{ROUTER} was deleted and came back"),
        ({"own.py": "ours\n"}, {"own.py": None}, "own.py was edited and is gone"),
        ({}, {ROUTER: "theirs\n"}, f"{ROUTER} differs, compared with a fresh render"),
        ({}, {ROUTER: None}, f"{ROUTER} is missing, compared with a fresh render"),
        ({}, {"app/health/left.py": "theirs\n"}, "app/health/left.py is left, compared with a fresh render"),
        ({}, {"README.md": "theirs\n"}, "README.md is the project's own and was changed"),
        ({}, {MIGRATION: MIGRATION_OF_ITS_OWN}, f"{MIGRATION} is the project's own and was changed"),
        ({}, {MIGRATION: None}, f"{MIGRATION} is a migration and is gone"),
        ({}, {"alembic/versions/1.py": MIGRATION_OF_ITS_OWN}, "the migrations have the heads ["),
        ({}, {f"{ROUTER}.rej": "ours\n"}, f"{ROUTER}.rej was left behind"),
        ({ROUTER: "ours\n"}, {ROUTER: "<<<<<<< before\nours\n"}, f"{ROUTER} has conflict markers"),
    ],
)
def test_what_an_update_may_not_do_is_noticed(
    edited: dict[str, str | None],
    updated: dict[str, str | None],
    complaint: str,
    make_project: MakeProject,
    fresh_render: FreshRender,
) -> None:
    project = make_project()
    put(project.path, edited)
    commit(project.path, "Edit")
    project.edited = files_of(project.path)
    project.assert_nothing_lost(fresh_render)

    put(project.path, updated)

    with pytest.raises(AssertionError, match=re.escape(complaint)):
        project.assert_nothing_lost(fresh_render)
