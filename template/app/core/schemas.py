"""Types that schemas share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Line = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")
]
"""One line of text that is not blank; spaces around it are dropped."""

Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
"""Any text that PostgreSQL can store: it has no NUL character."""


class Readable(BaseModel):
    """The base of what clients see: made from the row's attributes."""

    model_config = ConfigDict(from_attributes=True)
