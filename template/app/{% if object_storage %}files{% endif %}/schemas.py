"""What comes out of the files' endpoints, and what the form that goes in looks like."""

from typing import Any
from uuid import UUID

from pydantic import Field

from app.core.schemas import Readable


class FileRead(Readable):
    """A file as clients see it."""

    id: UUID
    name: str = Field(examples=["report.pdf"])
    content_type: str = Field(description="What the uploader said it is.", examples=["application/pdf"])
    size: int = Field(description="In bytes.")
    sha256: str = Field(description="The SHA-256 of the content, in hexadecimal.")


UPLOAD_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream"}},
                }
            }
        },
    }
}
"""The body of an upload, for the OpenAPI document: it is read while it arrives, so FastAPI does not see it."""
