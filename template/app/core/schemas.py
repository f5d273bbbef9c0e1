"""Types that schemas share."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints

CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _refuse_control_characters(value: object) -> object:
    # Some of them count as space, and would be dropped from the ends before anybody sees them.
    if isinstance(value, str) and CONTROL.search(value):
        raise ValueError("A line has no control characters.")
    return value


NO_CONTROL_CHARACTERS = BeforeValidator(_refuse_control_characters)
"""Comes last in what is made of a `Line`: `Annotated[Line, Field(max_length=100), NO_CONTROL_CHARACTERS]`."""

Line = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")
]
"""One line of text that is not blank; spaces around it are dropped."""

Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
"""Any text that PostgreSQL can store: it has no NUL character."""


class Readable(BaseModel):
    """The base of what clients see: made from the row's attributes."""

    model_config = ConfigDict(from_attributes=True)
