"""The CI of a rendered project: what it runs, on what, and with which rights."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.answers import RENDERS
from tests.template import QUESTIONS

WORKFLOWS = ".github/workflows"


def read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def answers(project: Path) -> dict[str, Any]:
    return read(project / ".copier-answers.yml")


@pytest.fixture(scope="module")
def on_github(renders: dict[str, Path]) -> list[Path]:
    return [project for project in renders.values() if answers(project)["ci"] == "github"]


@pytest.fixture(scope="module")
def on_gitlab(renders: dict[str, Path]) -> list[Path]:
    return [project for project in renders.values() if answers(project)["ci"] == "gitlab"]


@pytest.mark.parametrize("question", [name for name, details in QUESTIONS.items() if "choices" in details])
def test_every_choice_is_in_one_of_the_renders(question: str, renders: dict[str, Path]) -> None:
    choices = QUESTIONS[question]["choices"]
    wanted = set(choices.values()) if isinstance(choices, dict) else set(choices)
    assert {answers(project)[question] for project in renders.values()} == wanted


@pytest.mark.parametrize("name", RENDERS)
def test_there_is_only_the_ci_that_was_asked_for(name: str, renders: dict[str, Path]) -> None:
    files = {".github": "github", ".gitlab-ci.yml": "gitlab", "renovate.json": "gitlab"}
    there = {ci for file, ci in files.items() if (renders[name] / file).exists()}
    assert there == {answers(renders[name])["ci"]} - {"none"}


def test_no_workflow_runs_other_peoples_actions_or_may_write(on_github: list[Path]) -> None:
    for project in on_github:
        for file in (project / WORKFLOWS).iterdir():
            workflow = read(file)
            assert workflow["permissions"] == {}
            for job in workflow["jobs"].values():
                assert job["permissions"] == {"contents": "read"}
                used = [step["uses"] for step in job["steps"] if "uses" in step]
                assert [action for action in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action)] == []


def test_the_tests_run_on_the_oldest_python_and_on_that_of_production(
    on_github: list[Path], on_gitlab: list[Path]
) -> None:
    matrices = [
        (project, read(project / WORKFLOWS / "ci.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"])
        for project in on_github
    ] + [
        (project, read(project / ".gitlab-ci.yml")["tests"]["parallel"]["matrix"][0]["PYTHON_VERSION"])
        for project in on_gitlab
    ]
    for project, pythons in matrices:
        assert sorted(set(pythons)) == sorted(pythons)
        assert set(pythons) == {"3.11", answers(project)["python_version"]}


def test_the_tests_run_on_the_postgresql_of_production(on_github: list[Path], on_gitlab: list[Path]) -> None:
    images = [
        (project, read(project / WORKFLOWS / "ci.yml")["jobs"]["tests"]["services"]["postgres"]["image"])
        for project in on_github
    ] + [(project, read(project / ".gitlab-ci.yml")["tests"]["services"][0]["name"]) for project in on_gitlab]
    for project, image in images:
        assert image == f"postgres:{answers(project)['postgres_version']}-alpine"


def test_every_target_that_the_ci_and_the_hooks_name_exists(renders: dict[str, Path]) -> None:
    missing = set()
    for project in renders.values():
        makefiles = [project / "Makefile", *project.glob("make/*.mk")]
        targets = {target for file in makefiles for target in re.findall(r"^([a-z-]+):", file.read_text(), re.M)}
        files = [*project.glob(f"{WORKFLOWS}/*"), *project.glob(".gitlab-ci.yml"), project / ".pre-commit-config.yaml"]
        for command in re.findall(r"\bmake (?:--silent )?([a-z -]*[a-z])", "\n".join(map(Path.read_text, files))):
            missing |= set(command.split()) - targets - {"git", "a", "weekly", "one", "under", "run", "this", "before"}
    assert missing == set()
