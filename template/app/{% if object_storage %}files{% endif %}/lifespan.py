"""The storage is there for as long as the service runs."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.core.config import load
from app.files.config import FileSettings
from app.files.storage import Storage


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Put the storage and its settings where `app.files.deps` finds them."""
    app.state.file_settings = load(FileSettings)
    app.state.storage = Storage(app.state.file_settings)
    yield
