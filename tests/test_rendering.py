"""What happens when somebody renders the template."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from copier.errors import InvalidTypeError
from packaging.requirements import Requirement

from tests.answers import ANOTHER_ANSWER, REFUSED
from tests.template import CONFIGURATION, QUESTIONS, contents, render
from tools.checkout import extract

ANSWERS_FILE = ".copier-answers.yml"


def copier_cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "copier", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_renders_without_any_answer_through_the_python_api(renders: dict[str, Path]) -> None:
    assert (renders["defaults"] / "app" / "main.py").is_file()
    assert (renders["defaults"] / ANSWERS_FILE).is_file()


def test_it_renders_without_any_answer_on_the_command_line(template: Path, tmp_path: Path) -> None:
    done = copier_cli("copy", "--defaults", "--quiet", "--vcs-ref=HEAD", template, tmp_path / "my-service")
    by_api = render(template, tmp_path / "api" / "my-service")

    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "my-service") == contents(by_api)


def test_nobody_has_to_trust_it() -> None:
    assert {"_tasks", "_migrations", "_jinja_extensions"}.isdisjoint(CONFIGURATION)


def test_an_undefined_name_in_the_template_is_an_error() -> None:
    assert CONFIGURATION["_envops"] == {"undefined": "jinja2.StrictUndefined"}
    assert CONFIGURATION["_subdirectory"] == "template"
    assert CONFIGURATION["_min_copier_version"] == "9.19.0"


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_has_help_and_a_default(question: str) -> None:
    assert QUESTIONS[question]["help"].strip()
    assert "default" in QUESTIONS[question]


@pytest.mark.parametrize("question", [name for name, details in QUESTIONS.items() if details["type"] == "str"])
def test_every_free_text_is_validated(question: str) -> None:
    assert "choices" in QUESTIONS[question] or QUESTIONS[question]["validator"].strip()


def test_the_name_is_that_of_the_folder(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "billing-gateway_v2")

    answers = (project / ANSWERS_FILE).read_text()
    assert "project_name: Billing Gateway V2\n" in answers
    assert "project_slug: billing-gateway-v2\n" in answers


def test_two_renders_are_equal(template: Path, tmp_path: Path, renders: dict[str, Path]) -> None:
    assert contents(render(template, tmp_path / "my-service")) == contents(renders["defaults"])


def test_there_is_another_answer_to_every_question() -> None:
    assert set(ANOTHER_ANSWER) == set(QUESTIONS)


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_changes_what_is_rendered(
    question: str, template: Path, tmp_path: Path, renders: dict[str, Path]
) -> None:
    usual = contents(renders["defaults"])
    changed = contents(render(template, tmp_path / "my-service", **{question: ANOTHER_ANSWER[question]}))

    del usual[ANSWERS_FILE], changed[ANSWERS_FILE]
    assert changed != usual


@pytest.fixture(scope="module")
def files(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the template without git, from which Copier renders soonest."""
    return extract(template, "HEAD", tmp_path_factory.mktemp("files") / "copier-fastapi-postgres")


@pytest.mark.parametrize(("question", "answer", "words"), REFUSED, ids=lambda value: ascii(value)[:40])
def test_a_bad_answer_is_refused_with_a_sentence_and_nothing_is_written(
    question: str, answer: Any, words: str, files: Path, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, InvalidTypeError)) as refusal:
        render(files, tmp_path / "my-service", **{question: answer})

    assert words in str(refusal.value)
    assert question in str(refusal.value) or "Could not convert" in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_bad_answer_is_refused_on_the_command_line(question: str, files: Path, tmp_path: Path) -> None:
    # The last one that a command line can have, where there is no NUL and nothing but text.
    answer, words = [
        (answer, words)
        for name, answer, words in REFUSED
        if name == question and isinstance(answer, str) and "\0" not in answer
    ][-1]
    done = copier_cli("copy", "--defaults", "--data", f"{question}={answer}", files, tmp_path / "my-service")

    assert done.returncode != 0
    assert words in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_every_question_refuses_something() -> None:
    assert {question for question, _, _ in REFUSED} == set(QUESTIONS)


def test_no_service_has_the_name_of_a_package_that_it_needs(renders: dict[str, Path]) -> None:
    wanted = set()
    for project in renders.values():
        pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        for requirement in pyproject["project"]["dependencies"] + pyproject["dependency-groups"]["dev"]:
            wanted.add(Requirement(requirement).name)

    assert len(wanted) > 20
    assert wanted - set(CONFIGURATION["packages"]["default"]) == set()
