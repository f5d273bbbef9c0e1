"""Remove what uploads and deletions have left that were cut off: `python -m app.files`, every hour or so."""

import asyncio
import logging
import sys
from logging.config import dictConfig

from pydantic import ValidationError

from app.core.config import Settings, explain, load
from app.core.db import bind_engine, create_engine
from app.core.logging import logging_config
from app.files.config import FileSettings
from app.files.service import sweep
from app.files.storage import Storage

log = logging.getLogger("app.files")


async def clean(settings: Settings, file_settings: FileSettings) -> int:
    """Sweep once. Returns the exit code: 1 when something could not be removed."""
    async with bind_engine(create_engine(settings)):
        try:
            log.info("%d leftovers of files removed", await sweep(Storage(file_settings), file_settings))
        except Exception as error:
            log.error("Files are left to be removed: %r", error.__cause__ or error)
            return 1
    return 0


def main() -> int:
    """Sweep once. Returns the exit code: 2 when a setting is missing or not allowed."""
    try:
        settings, file_settings = load(Settings), load(FileSettings)
    except ValidationError as error:
        sys.stderr.write(f"Files cannot be cleaned with these settings:\n{explain(error)}\n")
        return 2
    dictConfig(logging_config(settings))
    return asyncio.run(clean(settings, file_settings))


if __name__ == "__main__":
    sys.exit(main())
