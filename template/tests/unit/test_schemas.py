"""The text that is let in is text that PostgreSQL can store."""

from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from app.core.schemas import NO_CONTROL_CHARACTERS, Line, Text

LINE, TEXT = TypeAdapter(Line), TypeAdapter(Text)


@pytest.mark.parametrize(("given", "kept"), [("Apollo", "Apollo"), ("  Apollo 11 ", "Apollo 11"), ("Ωmega", "Ωmega")])
def test_a_line_is_kept_without_the_spaces_around_it(given: str, kept: str) -> None:
    assert LINE.validate_python(given) == kept


@pytest.mark.parametrize("bad", ["", "   ", "\t\n", "a\nb", "a\x00b", "a\x7fb"])
def test_what_is_no_line_is_refused(bad: str) -> None:
    with pytest.raises(ValidationError):
        LINE.validate_python(bad)


@pytest.mark.parametrize("bad", ["\x1fa", "a\n", "\ta"])
def test_control_characters_are_not_dropped_unseen(bad: str) -> None:
    with pytest.raises(ValidationError, match="no control characters"):
        TypeAdapter(Annotated[Line, NO_CONTROL_CHARACTERS]).validate_python(bad)


@pytest.mark.parametrize("good", ["", "two\nlines", "\ttabs", "🚀"])
def test_a_text_may_have_several_lines(good: str) -> None:
    assert TEXT.validate_python(good) == good


def test_a_text_without_nul() -> None:
    with pytest.raises(ValidationError):
        TEXT.validate_python("a\x00b")


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValidationError):
        TEXT.validate_json(b'"\\ud800"')
