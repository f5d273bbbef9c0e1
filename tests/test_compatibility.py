"""What every release promised, and the checkout still keeps: its paths, its questions and answers, its migrations."""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from copier.errors import CopierError
from packaging.version import Version

from tests.answers import AWKWARD
from tests.template import CONFIGURATION, QUESTIONS, RELEASES, contents, render
from tools.checkout import ANSWERS_FILE, Questions, extract, questions_at, values
from tools.releases import changelog, faults, is_commit, version

MIGRATIONS = "alembic/versions/"

# Texts that were allowed from the first release on.
TEXTS: list[dict[str, str]] = [
    {},
    {"project_name": "O'Neill's \"Größe\" & C:\\new # {{ 7*7 }}: 🚀", "author_email": "o.neill+test@sub.example.com"},
    {"project_description": AWKWARD, "author_name": AWKWARD, "project_slug": "a"},
    {"project_name": "W" * 60, "project_slug": "w" * 40, "project_description": "d" * 200, "author_name": "a" * 100},
]


@dataclass(frozen=True)
class Pair:
    """What a release renders from some answers, and what the checkout makes of the same ones."""

    answers: dict[str, Any]
    then: Path
    now: Path

    @property
    def choices(self) -> str:
        """The answers that are not free text."""
        texts = {name for text in TEXTS for name in text}
        return ", ".join(f"{name}={answer}" for name, answer in self.answers.items() if name not in texts)


@dataclass(frozen=True)
class Comparison:
    """A release beside the checkout: what both render, and why the checkout refuses answers, with the first of them."""

    pairs: list[Pair]
    refused: dict[str, dict[str, Any]]


Compare = Callable[[str], Comparison]


@cache
def was(release: str) -> Questions:
    """Return the questions of a release, whose commit has to be here."""
    if not is_commit(RELEASES[release]):
        pytest.fail("\n".join(faults(release, RELEASES[release])))
    return questions_at(RELEASES[release])


def is_announced(release: str, *names: str) -> bool:
    """Say whether something of a release may be gone: after a major version, whose changelog names it."""
    later = [entry for entry in changelog() if entry[0].strip("[]").partition(" ")[0].strip("[]") not in older(release)]
    return may_be_gone(release, version(), "\n".join(text for _, text in later), *names)


def older(release: str) -> set[str]:
    """Return a release and those before it."""
    return {known for known in RELEASES if Version(known) <= Version(release)}


def may_be_gone(release: str, now: str, notes: str, *names: str) -> bool:
    """Say whether a major version has come since a release, and its notes have all the names."""
    named = all(re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/-]|\.\w)", notes) for name in names)
    return Version(now).major > Version(release).major and named


def is_asked(name: str) -> bool:
    """Say whether there still is a question."""
    return name in QUESTIONS


def has_type(name: str, question: dict[str, Any]) -> bool:
    """Say whether a question, if there still is one, has the type that it had."""
    return not is_asked(name) or QUESTIONS[name].get("type") == question["type"]


def can_be(name: str, value: Any) -> bool:
    """Say whether a question, if there still is one, can be answered with a value."""
    return not is_asked(name) or not values(QUESTIONS[name]) or value in values(QUESTIONS[name])


@cache
def promised(release: str) -> dict[str, list[Any]]:
    """Return what may be answered to each question of a release, without what is gone by announcement."""
    return {
        name: [
            value for value in values(question) if can_be(name, value) or not is_announced(release, name, str(value))
        ]
        for name, question in was(release).items()
        if (is_asked(name) and has_type(name, question)) or not is_announced(release, name)
    }


def sets_of_answers(release: str) -> list[dict[str, Any]]:
    """Return answers with every choice while all features are on, then with all of them off, then with every other on.

    Where the choices of a question begin anew, they meet others of the other questions than before.
    """
    answers = promised(release)
    rows = max(len(choices) for choices in answers.values()) + 2
    found = []
    for row in range(rows):
        switches = [name for name, choices in answers.items() if choices == [True, False]]
        wanted = {name: row < rows - 2 or (row == rows - 1 and number % 2 == 1) for number, name in enumerate(switches)}
        for place, (name, choices) in enumerate(answers.items()):
            if choices and name not in switches:
                wanted[name] = choices[(row + row // len(choices) * place) % len(choices)]
        found.append({name: text for name, text in TEXTS[row % len(TEXTS)].items() if name in answers} | wanted)
    return found


def answers_in(project: Path) -> dict[str, Any]:
    """Return the answers that a project was rendered with."""
    answers = yaml.safe_load((project / ANSWERS_FILE).read_text(encoding="utf-8"))
    return {name: answer for name, answer in answers.items() if not name.startswith("_")}


@pytest.fixture(scope="session")
def compare(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Compare:
    """What a release renders, beside what the checkout renders from the answers file of that, as an update does."""
    folder = tmp_path_factory.mktemp("releases")
    checkout = extract(template, "HEAD", folder / "checkout")
    now: dict[str, Path] = {}

    def render_now(answers: dict[str, Any]) -> Path:
        key = repr(sorted(answers.items()))
        if key not in now:
            now[key] = render(checkout, folder / f"now-{len(now)}" / "my-service", **answers)
        return now[key]

    @cache
    def compare(release: str) -> Comparison:
        answer_sets, kept = sets_of_answers(release), set(promised(release))
        old = extract(template, RELEASES[release], folder / release / "template")
        found = Comparison([], {})
        for number, wanted in enumerate(answer_sets):
            then = render(old, folder / release / str(number) / "my-service", **wanted)
            answers = {name: answer for name, answer in answers_in(then).items() if name in kept}
            try:
                found.pairs.append(Pair(answers, then, render_now(answers)))
            except (ValueError, CopierError) as error:
                found.refused.setdefault(str(error), answers)
        assert found.pairs, f"nothing of {release} was compared"
        return found

    return compare


def test_there_are_releases() -> None:
    assert list(RELEASES)[:2] == ["0.1.0", "0.2.0"]


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_is_in_the_history_and_what_its_tag_says(release: str) -> None:
    found = faults(release, RELEASES[release])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("release", RELEASES)
def test_every_question_of_a_release_is_still_asked(release: str) -> None:
    gone = [
        f"{name} is asked by {release} and no longer is"
        for name in was(release)
        if not is_asked(name) and not is_announced(release, name)
    ]
    assert not gone, "\n".join(gone)


@pytest.mark.parametrize("release", RELEASES)
def test_every_question_of_a_release_has_the_same_type(release: str) -> None:
    changed = [
        f"{name} is a question of type {question['type']} in {release}, and of type {QUESTIONS[name].get('type')} now"
        for name, question in was(release).items()
        if not has_type(name, question) and not is_announced(release, name)
    ]
    assert not changed, "\n".join(changed)


@pytest.mark.parametrize("release", RELEASES)
def test_every_choice_of_a_release_can_still_be_made(release: str) -> None:
    gone = [
        f"{name} can be {value} in {release} and no longer can"
        for name, question in was(release).items()
        for value in values(question)
        if has_type(name, question) and not can_be(name, value) and not is_announced(release, name, str(value))
    ]
    assert not gone, "\n".join(gone)


def test_no_question_is_without_a_default() -> None:
    without = [
        f"{name} has no default, which every update would stop at"
        for name, question in CONFIGURATION.items()
        if not name.startswith("_") and "default" not in question
    ]
    assert not without, "\n".join(without)


@pytest.mark.parametrize("release", RELEASES)
def test_every_answer_to_a_release_is_the_same_now(release: str, compare: Compare) -> None:
    changed = {
        f"answers to {release} can no longer be given: {error}\nfor example {answers}"
        for error, answers in compare(release).refused.items()
    }
    for pair in compare(release).pairs:
        now = answers_in(pair.now)
        for name, answer in pair.answers.items():
            if name not in now:
                changed.add(f"the answer to {name} is in the answers file of {release} and no longer is")
            elif (type(now[name]), now[name]) != (type(answer), answer):
                changed.add(f"{name} was answered with {answer!r} in {release}, which is {now[name]!r} now")
    assert not changed, "\n".join(sorted(changed))


@pytest.mark.parametrize("release", RELEASES)
def test_every_path_of_a_release_is_still_rendered(release: str, compare: Compare) -> None:
    gone: dict[str, list[str]] = defaultdict(list)
    rendered: dict[str, int] = defaultdict(int)
    for pair in compare(release).pairs:
        for path in contents(pair.then):
            rendered[path] += 1
            if not (pair.now / path).is_file() and not is_announced(release, path):
                gone[path].append(pair.choices)
    complaints = [
        f"{path} is rendered by {release} and no longer is"
        + ("" if len(sets) == rendered[path] else f" with {'; '.join(sets)}")
        for path, sets in gone.items()
    ]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("release", RELEASES)
def test_no_migration_of_a_release_was_edited(release: str, compare: Compare) -> None:
    edited = {
        f"{path} was released with {release} and has been edited: what is applied already never changes"
        for pair in compare(release).pairs
        for path, content in contents(pair.then).items()
        if path.startswith(MIGRATIONS) and (pair.now / path).is_file() and (pair.now / path).read_bytes() != content
    }
    assert not edited, "\n".join(sorted(edited))


@pytest.mark.parametrize("release", RELEASES)
def test_every_choice_is_in_the_answers_that_are_compared(release: str) -> None:
    given = sets_of_answers(release)
    missing = [
        f"{name}={value}"
        for name, choices in promised(release).items()
        for value in choices
        if value not in [answers[name] for answers in given]
    ]
    assert missing == []


@pytest.mark.parametrize("release", RELEASES)
def test_a_text_for_every_question_is_in_the_answers_that_are_compared(release: str) -> None:
    given = {name for answers in sets_of_answers(release) for name in answers}
    assert set(promised(release)) - given == set()


NOTES = "### Removed\n\n- `app/old.py`, and `ci` is no longer `gitlab`.\n"


@pytest.mark.parametrize(
    ("release", "now", "names", "allowed"),
    [
        ("0.2.0", "1.0.0", ["app/old.py"], True),
        ("0.2.0", "1.0.0", ["ci", "gitlab"], True),
        ("0.2.0", "0.3.0", ["app/old.py"], False),
        ("1.0.0", "1.1.0", ["app/old.py"], False),
        ("0.2.0", "1.0.0", ["app/other.py"], False),
        ("0.2.0", "1.0.0", ["old.py"], False),
        ("0.2.0", "1.0.0", ["app/old"], False),
        ("0.2.0", "1.0.0", ["ci", "github"], False),
    ],
)
def test_only_a_major_version_that_says_so_may_leave_something_out(
    release: str, now: str, names: list[str], allowed: bool
) -> None:
    assert may_be_gone(release, now, NOTES, *names) is allowed
