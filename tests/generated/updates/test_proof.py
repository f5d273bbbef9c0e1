"""Whatever people do to their projects, an update applies without a conflict, loses nothing, and the suite is green."""

from collections.abc import Iterator

import pytest
import yaml

from tests.answers import EVERYTHING, Answers
from tests.generated.test_checks import assert_green
from tests.generated.updates.conftest import MakeProject, Update
from tests.generated.updates.editing import EDITS
from tests.generated.updates.project import FreshRender, answers_of, commit
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


def projects() -> Iterator[tuple[str, str]]:
    """Yield each release with the names of the answers that make a difference to it."""
    for release in RELEASES:
        different = {repr(known_answers(release, answers)): name for name, answers in reversed(REPRESENTATIVE.items())}
        yield from ((release, name) for name in reversed(different.values()))


PROJECTS = list(projects())


@pytest.mark.parametrize(("release", "name"), PROJECTS)
def test_an_update_of_an_edited_project_loses_nothing_and_is_green(
    release: str, name: str, make_project: MakeProject, fresh_render: FreshRender, update: Update
) -> None:
    project = make_project(release, **known_answers(release, REPRESENTATIVE[name]))
    answers = {"ci": "none"} | answers_of(project.path)
    left_out = EXCLUSIVE[list(REPRESENTATIVE).index(name) % 2]
    edits = [edit for edit in EDITS if EDITS[edit].fits(release, answers) and edit != left_out]
    project.edit(*edits)

    update(project, release)

    project.assert_nothing_lost(fresh_render)
    assert_green(project.service.make("check"))
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
