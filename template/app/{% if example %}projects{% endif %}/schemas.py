"""What goes into and comes out of the projects' endpoints."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from app.core.schemas import NO_CONTROL_CHARACTERS, Line, Readable, Text

Name = Annotated[Line, Field(max_length=100, examples=["Apollo"]), NO_CONTROL_CHARACTERS]
Description = Annotated[Text, Field(max_length=2000, examples=["To the moon, and safely back."])]


class ProjectCreate(BaseModel):
    """A new project."""

    name: Name
    description: Description | None = None


class ProjectUpdate(BaseModel):
    """Changes to a project. What is left out stays as it is, so the defaults are never used."""

    name: Name = Field(default_factory=str)
    description: Description | None = None


class ProjectRead(Readable):
    """A project as clients see it."""

    id: UUID
    name: str
    description: str | None
    created_at: datetime
