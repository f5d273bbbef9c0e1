"""Dependencies of the files' endpoints."""

from typing import Annotated

from fastapi import Depends, Request

from app.core.deps import Session
from app.files.config import FileSettings
from app.files.storage import Storage


async def get_storage(request: Request) -> Storage:
    """Return the storage that the application was started with."""
    storage: Storage = request.app.state.storage
    return storage


async def get_file_settings(request: Request) -> FileSettings:
    """Return the settings that the application was started with."""
    settings: FileSettings = request.app.state.file_settings
    return settings


async def end_transaction(session: Session) -> None:
    """End what the database was asked before the handler - may the caller do this? - and give the connection back."""
    await session.commit()


CurrentStorage = Annotated[Storage, Depends(get_storage)]
CurrentFileSettings = Annotated[FileSettings, Depends(get_file_settings)]
