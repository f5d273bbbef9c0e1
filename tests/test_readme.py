"""README.md describes the newest release, which is what a user gets: a paragraph on something newer says so."""

import re

import pytest

from tests.template import RELEASES, ROOT, git
from tools.checkout import questions_at, values

README = (ROOT / "README.md").read_text(encoding="utf-8")
NEWEST = list(RELEASES.values())[-1]
NOT_FOR_USERS = ("Try it", "Work on the template", "Licence")
MARK = "not released yet"


def users_part(text: str) -> list[str]:
    """Return the paragraphs and the rows of tables that describe a service, without those that are marked."""
    sections = re.split(r"(?m)^## ", text)
    paragraphs = "\n\n".join(section for section in sections if not section.startswith(NOT_FOR_USERS))
    parts = re.split(r"\n\n|\n(?=\|)", paragraphs)
    return [part for part in parts if MARK not in part]


def ahead(text: str, commit: str) -> list[str]:
    """Return the questions, answers, Make targets, variables and pages of a README that a commit does not have."""
    parts = users_part(text)
    questions = questions_at(commit)
    targets = re.findall(
        r"(?m)^([a-z-]+):", git(ROOT, "grep", "-h", "^[a-z-]*:", commit, "--", "template/Makefile", "template/make/")
    )
    files = git(ROOT, "ls-tree", "-r", "-z", "--name-only", f"{commit}:template").replace(".jinja", "").split("\0")
    everything = git(ROOT, "grep", "-h", "-I", "-E", "[A-Z]+_[A-Z]+", commit, "--", "template")
    rows = [(row[1], row[2]) for part in parts if (row := re.match(r"\| `(\w+)` \|(.*)", part))]
    known = {name: [str(value) for value in values(question)] for name, question in questions.items()}
    used = [
        *(f"make {target}" for part in parts for target in re.findall(r"(?:`|\$ )make ([a-z-]+)", part)),
        *(name for part in parts for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", part)),
        *(page for part in parts for page in re.findall(r"`(docs/[\w-]+\.md)`", part)),
        *(f"{name}={value}" for name, row in rows for value in re.findall(r"`(\w+)`", row)),
        *(name for name, _ in rows),
    ]
    there = {
        *(f"make {target}" for target in targets),
        *re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", everything),
        *files,
        *(f"{name}={value}" for name, choices in known.items() for value in choices),
        *questions,
    }
    return sorted({name for name in used if name not in there})


def test_the_readme_describes_the_newest_release() -> None:
    assert ahead(README, NEWEST) == [], f"release it, or say in that paragraph: {MARK}"


def test_the_readme_names_every_question_of_the_newest_release() -> None:
    named = set(re.findall(r"(?m)^\| `(\w+)` \|", README))

    assert set(questions_at(NEWEST)) - named == set()


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ("`make rocket` starts it.", "make rocket"),
        ("```console\n$ make rocket\n```", "make rocket"),
        ("| `rocket` | no | whether it flies |", "rocket"),
        ("| `auth` | none | or `rocket` |", "auth=rocket"),
        ("`ROCKET_URL` names it.", "ROCKET_URL"),
        ("`docs/rocket.md` explains it.", "docs/rocket.md"),
    ],
)
def test_what_is_newer_than_the_release_is_found_unless_it_is_marked(more: str, found: str) -> None:
    text = README.replace("## Questions\n", f"## Questions\n\n{more}\n")

    assert ahead(text, NEWEST) == [found]
    assert ahead(text.replace(more, f"{more} ({MARK})"), NEWEST) == []
