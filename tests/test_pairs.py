"""Whether the sets of answers that are rendered have every two answers together, whatever is asked."""

from itertools import combinations
from typing import Any

import pytest

from tests.answers import PAIRS, RENDERS, Answers
from tests.pairs import choices, pairwise
from tests.template import QUESTIONS


def missing_pairs(answers: dict[str, list[Any]], rows: list[Answers]) -> set[tuple[str, Any, str, Any]]:
    """Return every two answers that no row has."""
    wanted = {(a, x, b, y) for a, b in combinations(answers, 2) for x in answers[a] for y in answers[b]}
    return wanted - {(a, row[a], b, row[b]) for row in rows for a, b in combinations(answers, 2)}


def test_every_two_answers_are_rendered_together() -> None:
    assert missing_pairs(choices(QUESTIONS), list(PAIRS.values())) == set()
    assert PAIRS.items() <= RENDERS.items()
    assert all(row.keys() == QUESTIONS.keys() for row in PAIRS.values())


def test_every_question_has_more_than_one_answer_to_try() -> None:
    assert [name for name, answers in choices(QUESTIONS).items() if len(set(answers)) < 2] == []


def test_a_question_that_is_new_is_covered_at_once() -> None:
    answers = choices(
        QUESTIONS | {"queue": {"type": "str", "choices": {"no": "none", "yes": "redis", "more": "kafka"}}}
    )

    assert answers["queue"] == ["none", "redis", "kafka"]
    assert missing_pairs(answers, pairwise(answers)) == set()


def test_a_text_that_is_new_has_to_be_given_something_awkward() -> None:
    with pytest.raises(KeyError, match="motto"):
        choices(QUESTIONS | {"motto": {"type": "str"}})


def test_a_pair_that_is_missing_would_be_noticed() -> None:
    answers = choices(QUESTIONS)
    rows = [row for row in pairwise(answers) if (row["auth"], row["ci"]) != ("jwt", "gitlab")]

    assert ("auth", "jwt", "ci", "gitlab") in missing_pairs(answers, rows)


def test_it_takes_hardly_more_rows_than_the_two_longest_questions_have_pairs() -> None:
    longest = sorted((len(answers) for answers in choices(QUESTIONS).values()), reverse=True)[:2]

    assert len(PAIRS) <= 1.5 * longest[0] * longest[1]
