"""`make template-update` and `make template-check`, in whatever state a project and the template are."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.generated.updates.conftest import MakeProject
from tests.generated.updates.project import ANSWERS_FILE, Project, answers_of, commit, files_of
from tests.processes import run
from tests.template import NEWEST, RELEASES, TEMPLATE, git

NEWER = "v9999.0.1"
Newer = Callable[..., None]


@pytest.fixture
def template_of_its_own(released: Path, tmp_path: Path) -> Path:
    """A copy of the template that a test may change."""
    return Path(shutil.copytree(released, tmp_path / "template", symlinks=True))


@pytest.fixture
def project(make_project: MakeProject, template_of_its_own: Path) -> Project:
    """A project of the template as it is now, in which nothing has been edited."""
    return make_project(template=template_of_its_own)


@pytest.fixture
def newer(template_of_its_own: Path) -> Newer:
    """Releases a newer version of the template, in which a file is new, says something else, or is gone."""

    def release(path: str, before: str = "", after: str | None = None) -> None:
        file = template_of_its_own / path
        if after is None:
            file.unlink()
        else:
            text = file.read_text() if file.exists() else ""
            assert before in text
            file.write_text(text.replace(before, after, 1))
        commit(template_of_its_own, "Newer")
        git(template_of_its_own, "tag", "--annotate", NEWER, "--message", "Newer")

    return release


def make(project: Project, target: str, **variables: str) -> tuple[int, str]:
    """Run one of the two targets. Returns its exit code and all that it said."""
    done = project.service.make(target, UV_NO_SYNC="false", **variables)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def change(project: Project, path: str, before: str, after: str) -> None:
    """Change a file of the project, and commit that."""
    file = project.path / path
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after, 1))
    commit(project.path, f"Change {path}")


def status(project: Project) -> str:
    return git(project.path, "status", "--porcelain")


def test_when_there_is_nothing_new_nothing_is_done(project: Project) -> None:
    checked = make(project, "template-check")
    code, said = make(project, "template-update")

    assert checked[0] == 0
    assert f"This is the template's newest version: {NEWEST}" in checked[1]
    assert code == 0
    assert "There is nothing new." in said
    assert status(project) == ""


def test_what_is_new_is_announced_and_brought(project: Project, newer: Newer) -> None:
    newer("template/docs/decisions/0001-isolation.md", "# ", "# Newer: ")
    announced = make(project, "template-check")
    code, said = make(project, "template-update")

    assert announced[0] != 0
    assert f"The template has a newer version than {NEWEST}: make template-update" in announced[1]
    assert code == 0
    assert f"The project is at {NEWER} now" in said
    assert sorted(line[3:] for line in status(project).splitlines()) == [
        ANSWERS_FILE,
        "docs/decisions/0001-isolation.md",
    ]


def test_a_tree_with_changes_is_refused(project: Project, newer: Newer) -> None:
    newer("template/docs/decisions/0001-isolation.md", "# ", "# Newer: ")
    (project.path / "scratch.py").touch()
    before = files_of(project.path)
    code, said = make(project, "template-update")

    assert code != 0
    assert "Commit these or stash them first" in said
    assert "?? scratch.py" in said
    assert files_of(project.path) == before


def untracked_lock(_project: Project) -> None:
    """Leave it as `uv run` has written it."""


def staged_lock(project: Project) -> None:
    git(project.path, "add", "uv.lock")


def changed_lock(project: Project) -> None:
    commit(project.path, "Lock")
    with (project.path / "uv.lock").open("a") as file:
        file.write("# Ours\n")


@pytest.mark.parametrize("state", [untracked_lock, staged_lock, changed_lock])
def test_a_lock_that_is_not_committed_is_kept(state: Callable[[Project], None], project: Project, newer: Newer) -> None:
    subprocess.run(["uv", "lock", "--quiet"], cwd=project.path, env=project.service.environment(), check=True)
    state(project)
    before = (project.path / "uv.lock").read_text()
    newer("template/docs/decisions/0001-isolation.md", "# ", "# Newer: ")
    code, said = make(project, "template-update")

    assert code == 0, said
    assert (project.path / "uv.lock").read_text() == before
    assert (project.path / "docs/decisions/0001-isolation.md").read_text().startswith("# Newer: ")


GIT_CONFIGURATION = """
[status]
    branch = true
    short = true
    showUntrackedFiles = no
    relativePaths = false
[color]
    ui = always
    status = always
[core]
    quotePath = true
    hooksPath = {hooks}
[diff]
    noprefix = true
    mnemonicPrefix = true
[merge]
    conflictStyle = zdiff3
[commit]
    gpgSign = true
[gpg]
    program = false
[user]
    name = Me
    email = me@example.com
"""


def test_the_developers_configuration_of_git_makes_no_difference(
    project: Project, newer: Newer, tmp_path: Path
) -> None:
    hooks, configuration = tmp_path / "hooks", tmp_path / "gitconfig"
    hooks.mkdir()
    for name in ("pre-commit", "commit-msg", "post-checkout"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    configuration.write_text(GIT_CONFIGURATION.format(hooks=hooks))
    change(project, "app/health/router.py", '"""', '"""Ours. ')
    newer("template/docs/decisions/0001-isolation.md", "# ", "# Newer: ")
    variables = {"GIT_CONFIG_GLOBAL": str(configuration)}

    (project.path / "mühsam.py").touch()
    refused = make(project, "template-update", **variables)
    (project.path / "mühsam.py").unlink()
    updated = make(project, "template-update", **variables)

    assert refused[0] != 0
    assert "Commit these or stash them first" in refused[1]
    assert "\n?? mühsam.py\n" in refused[1]
    assert updated[0] == 0, updated[1]
    assert f"The project is at {NEWER} now" in updated[1]
    assert (project.path / "docs/decisions/0001-isolation.md").read_text().startswith("# Newer: ")
    assert (project.path / "app/health/router.py").read_text().startswith('"""Ours. ')


def test_a_folder_without_git_is_refused(project: Project) -> None:
    shutil.rmtree(project.path / ".git")
    code, said = make(project, "template-update")

    assert code != 0
    assert "This is no git repository with a commit: git init" in said


def test_a_real_conflict_is_shown_and_fails(project: Project, newer: Newer) -> None:
    change(project, "app/health/router.py", '"""', '"""Ours. ')
    newer("template/app/health/router.py", '"""', '"""Theirs. ')
    code, said = make(project, "template-update")

    text = (project.path / "app/health/router.py").read_text()
    assert code != 0
    assert "- app/health/router.py has a conflict" in said
    assert text.index("<<<<<<<") < text.index('"""Ours. ') < text.index("=======") < text.index('"""Theirs. ')
    assert status(project).splitlines()[1:] == ["UU app/health/router.py"]


def test_changes_that_could_not_be_applied_fail(project: Project, newer: Newer) -> None:
    change(project, "app/health/router.py", '"""', '"""Ours. ')
    newer("template/app/health/router.py", '"""', '"""Theirs. ')
    code, said = make(project, "template-update", ARGS="--conflict rej")

    assert code != 0
    assert "- app/health/router.py.rej has changes that could not be applied" in said


def test_a_file_that_the_template_drops_stays_if_it_was_changed(project: Project, newer: Newer) -> None:
    change(project, "docs/decisions/0001-isolation.md", "# ", "# Ours: ")
    newer("template/docs/decisions/0001-isolation.md")
    code, said = make(project, "template-update")

    assert code != 0
    assert "- docs/decisions/0001-isolation.md is not in the template any more, but was changed here" in said
    assert (project.path / "docs/decisions/0001-isolation.md").read_text().startswith("# Ours: ")


def test_a_file_that_the_template_drops_goes_if_nobody_changed_it(project: Project, newer: Newer) -> None:
    newer("template/docs/decisions/0001-isolation.md")
    code, _ = make(project, "template-update")

    assert code == 0
    assert not (project.path / "docs/decisions/0001-isolation.md").exists()


def test_an_answer_that_is_no_longer_accepted_fails(
    make_project: MakeProject, template_of_its_own: Path, newer: Newer
) -> None:
    project = make_project(template=template_of_its_own, postgres_version="16")
    newer("copier.yml", 'choices: ["18", "17", "16"]', 'choices: ["18", "17"]')
    code, said = make(project, "template-update")

    assert code != 0
    assert "- The answer to postgres_version was '16' and is now '18'." in said


def test_a_default_that_has_changed_changes_no_answer(project: Project, newer: Newer) -> None:
    newer("copier.yml", 'default: "18"', 'default: "17"')
    code, _ = make(project, "template-update")

    assert code == 0
    assert answers_of(project.path)["postgres_version"] == "18"


def test_answers_that_were_changed_by_hand_are_refused(project: Project) -> None:
    change(project, ANSWERS_FILE, "postgres_version: '18'", "postgres_version: '17'")
    code, said = make(project, "template-update")

    assert code != 0
    assert f"{ANSWERS_FILE} was changed by hand" in said
    assert status(project) == ""


@pytest.mark.parametrize(
    ("target", "text"), [("template-update", ""), ("template-update", "[\n"), ("template-check", "just: this\n")]
)
def test_answers_that_say_nothing_are_refused(target: str, text: str, project: Project) -> None:
    (project.path / ANSWERS_FILE).write_text(text)
    commit(project.path, "Break the answers")
    code, said = make(project, target)

    assert code != 0
    assert f"{ANSWERS_FILE} does not say _commit and _src_path" in said


@pytest.mark.parametrize(
    ("target", "url"),
    [("template-update", "https://nowhere.invalid/template.git"), ("template-check", "/nowhere/template")],
)
def test_a_template_that_cannot_be_reached_is_named(url: str, target: str, project: Project, tmp_path: Path) -> None:
    change(project, ANSWERS_FILE, str(tmp_path / "template"), url)
    code, said = make(project, target)

    assert code != 0
    assert f"The template at {url} could not be used: " in said
    assert "If it has moved, change _src_path" in said
    assert status(project) == ""


def test_a_template_that_has_moved_is_found_at_its_new_place(project: Project, newer: Newer, tmp_path: Path) -> None:
    newer("template/docs/decisions/0001-isolation.md", "# ", "# Newer: ")
    (tmp_path / "template").rename(tmp_path / "moved")
    change(project, ANSWERS_FILE, str(tmp_path / "template"), str(tmp_path / "moved"))
    code, said = make(project, "template-update")

    assert code == 0, said
    assert (project.path / "docs/decisions/0001-isolation.md").read_text().startswith("# Newer: ")


def test_a_shallow_clone_of_the_project_is_updated(project: Project, newer: Newer) -> None:
    change(project, "README.md", "# ", "# Our ")
    change(project, "app/health/router.py", '"""', '"""Ours. ')
    newer("template/docs/decisions/0001-isolation.md", "# ", "# Newer: ")
    clone = project.path.parent / "clone"
    git(project.path, "clone", "--quiet", "--depth=1", f"file://{project.path}", str(clone))
    shallow = replace(project, service=replace(project.service, project=clone))
    code, said = make(shallow, "template-update")

    assert code == 0, said
    assert (clone / "docs/decisions/0001-isolation.md").read_text().startswith("# Newer: ")
    assert (clone / "app/health/router.py").read_text().startswith('"""Ours. ')


def test_a_template_without_its_history_is_named(project: Project, newer: Newer, tmp_path: Path) -> None:
    newer("template/docs/decisions/0001-isolation.md", "# ", "# Newer: ")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"--branch={NEWER}", f"file://{tmp_path / 'template'}", str(shallow))
    change(project, ANSWERS_FILE, str(tmp_path / "template"), str(shallow))
    code, said = make(project, "template-update")

    assert code != 0
    assert f"The template at {shallow} could not be used: " in said
    assert f"with {NEWEST} in its history" in said
    assert status(project) == ""


def test_a_project_in_a_folder_of_a_repository_is_updated(project: Project, newer: Newer) -> None:
    change(project, "app/health/router.py", '"""', '"""Ours. ')
    repository = project.path.parent
    shutil.rmtree(project.path / ".git")
    git(repository, "init", "--quiet")
    commit(repository, "Begin")
    newer("template/docs/decisions/0001-isolation.md", "# ", "# Newer: ")
    code, said = make(project, "template-update")

    assert code == 0, said
    assert (project.path / "docs/decisions/0001-isolation.md").read_text().startswith("# Newer: ")
    assert (project.path / "app/health/router.py").read_text().startswith('"""Ours. ')


def test_a_feature_whose_folder_is_gone_is_switched_off(
    make_project: MakeProject, template_of_its_own: Path, newer: Newer
) -> None:
    project = make_project(template=template_of_its_own, auth="jwt")
    for path in ("app/auth", "tests/integration", "tests/fixtures"):
        shutil.rmtree(project.path / path)
    commit(project.path, "No accounts")
    newer("template/app/{% if auth == 'jwt' %}auth{% endif %}/newer.py", "", '"""Newer."""\n')
    code, said = make(project, "template-update")

    assert code == 0, said
    assert "app/auth gone: auth is none from now on." in said
    assert answers_of(project.path)["auth"] == "none"
    assert not (project.path / "app/auth").exists()
    assert not (project.path / "app/core/access.py").exists()


def test_the_lock_follows(project: Project, newer: Newer) -> None:
    lock = subprocess.run(["uv", "lock", "--quiet"], cwd=project.path, env=project.service.environment(), check=False)
    commit(project.path, "Lock")
    newer("template/pyproject.toml.jinja", '  "ruff>=', '  "colorama>=0.4",\n  "ruff>=')
    code, said = make(project, "template-update")
    check = subprocess.run(
        ["uv", "lock", "--check", "--quiet"], cwd=project.path, env=project.service.environment(), check=False
    )

    assert lock.returncode == 0
    assert code == 0, said
    assert 'name = "colorama"' in (project.path / "uv.lock").read_text()
    assert check.returncode == 0


def test_a_lock_that_cannot_follow_fails(project: Project, newer: Newer) -> None:
    subprocess.run(["uv", "lock", "--quiet"], cwd=project.path, env=project.service.environment(), check=True)
    commit(project.path, "Lock")
    newer("template/pyproject.toml.jinja", '  "ruff>=', '  "ruff<0.1",\n  "ruff>=')
    code, said = make(project, "template-update")

    assert code != 0
    assert "- uv.lock no longer matches pyproject.toml; uv lock says: " in said


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_without_the_target_is_updated_by_the_script_of_a_checkout(
    release: str, make_project: MakeProject
) -> None:
    project = make_project(release)
    project.edit("a feature", "a dependency")
    script: list[str | Path] = ["uv", "run", "--script", TEMPLATE / "dev" / "template.py"]
    done = run([*script, "update", "--data", "auth=jwt"], project.path, project.service.environment())

    assert done.returncode == 0, done.stderr
    assert "alembic/versions/0002_users.py follows 1a2b3c4d5e6f." in done.stdout
    assert f"The project is at {NEWEST} now" in done.stdout


def test_a_project_that_has_left_the_template_still_works(project: Project) -> None:
    for path in (ANSWERS_FILE, "dev/template.py", "docs/template.md", ".github/workflows/template.yml"):
        (project.path / path).unlink()
    makefile = (project.path / "Makefile").read_text()
    start, end = makefile.index("template-update: "), makefile.index("-include make/*.mk")
    (project.path / "Makefile").write_text(makefile[:start] + makefile[end:])

    for target in ("lint", "typecheck", "test-unit"):
        assert project.service.make(target).returncode == 0
