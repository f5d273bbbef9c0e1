"""What goes into and comes out of the tasks' endpoints."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, StrictBool

from app.core.schemas import NO_CONTROL_CHARACTERS, Line, Readable

Title = Annotated[Line, Field(max_length=200, examples=["Build a rocket"]), NO_CONTROL_CHARACTERS]


class TaskCreate(BaseModel):
    """A new task."""

    title: Title
    done: StrictBool = False


class TaskUpdate(BaseModel):
    """Changes to a task. What is left out stays as it is, so the defaults are never used."""

    title: Title = Field(default_factory=str)
    done: StrictBool = Field(default_factory=bool)


class TaskRead(Readable):
    """A task as clients see it."""

    id: UUID
    project_id: UUID
    title: str
    done: bool
    created_at: datetime
