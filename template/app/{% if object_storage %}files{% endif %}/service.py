"""What can be done with files. Nothing here knows of HTTP.

The database and the storage cannot change as one, so the order is what keeps them together: the row comes first and
goes last, and says in between that its object may or may not be there. Whatever dies on the way leaves a row that
`sweep` finds. To upload and to delete takes several short transactions, and no connection is held while bytes stream.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import AsyncSessionLocal
from app.core.errors import NotFoundError, ServiceError, UnavailableError
from app.core.permissions import Caller
from app.files.access import Action, require
from app.files.config import FileSettings
from app.files.form import BLOCK_SIZE, FileForm
from app.files.models import DOOMED, PENDING, STORED, File
from app.files.names import UNKNOWN_TYPE, attachment
from app.files.storage import Storage, StorageUnavailableError

log = logging.getLogger(__name__)

SWEPT_AT_ONCE = 100
UPLOAD_LOST = "The upload took so long that it was given up. Try again."


class TooLargeError(ServiceError):
    """The file is larger than a file may be."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class TooSlowError(ServiceError):
    """The file took longer to arrive than it may."""

    status = HTTPStatus.REQUEST_TIMEOUT
    headers: Mapping[str, str] = {"Connection": "close"}  # RFC 9110, section 15.5.9


class TooManyUploadsError(UnavailableError):
    """The process has as many uploads under way as it takes."""


class Measured:
    """Passes blocks on, and knows the size and the digest of those that went by.

    Raises:
        TooLargeError: there are more than `most` bytes.
    """

    def __init__(self, blocks: AsyncIterator[bytes], most: int) -> None:
        self._blocks = blocks
        self._most = most
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The digest, in hexadecimal."""
        return self._digest.hexdigest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for block in self._blocks:
            self.size += len(block)
            if self.size > self._most:
                raise TooLargeError(f"A file may have at most {self._most} bytes.")
            self._digest.update(block)
            yield block


async def upload(storage: Storage, form: FileForm, settings: FileSettings, caller: Caller | None = None) -> File:
    """Store the file in a form, as the caller's.

    Raises:
        TooManyUploadsError: others are under way.
        TooLargeError: it is too large.
        TooSlowError: it takes too long, or stalls.
        StorageUnavailableError: the storage does not take it.
    """
    if storage.uploads >= settings.max_uploads:
        raise TooManyUploadsError("Too many files are being uploaded at the moment. Try again.")
    deadline = asyncio.timeout(settings.upload_timeout)
    storage.uploads += 1
    try:
        async with deadline:
            async with _arriving(settings.upload_idle_timeout):
                await form.open()
            return await _upload(storage, form, settings, caller.id if caller else None)
    except TimeoutError as error:
        if deadline.expired():
            raise TooSlowError(f"A file may take at most {settings.upload_timeout:g} seconds.") from error
        raise
    finally:
        storage.uploads -= 1


@asynccontextmanager
async def _arriving(seconds: float) -> AsyncGenerator[None]:
    """Wait for the client in the block, for at most `seconds`."""
    idle = asyncio.timeout(seconds)
    try:
        async with idle:
            yield
    except TimeoutError as error:
        if idle.expired():
            raise TooSlowError(f"{BLOCK_SIZE} bytes may take at most {seconds:g} seconds to arrive.") from error
        raise


async def _steadily(blocks: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """Pass blocks on, each of which has to arrive within `seconds`: what the storage takes does not count."""
    while True:
        async with _arriving(seconds):
            block = await anext(blocks, None)
        if block is None:
            return
        yield block


async def _upload(storage: Storage, form: FileForm, settings: FileSettings, owner_id: UUID | None) -> File:
    file = File(owner_id=owner_id, name=form.name, content_type=form.content_type)
    async with AsyncSessionLocal.begin() as session:
        session.add(file)
    content = Measured(_steadily(form.blocks(), settings.upload_idle_timeout), settings.max_upload_bytes)
    # Whatever the uploader says it is: nothing that a browser would run.
    headers = {"Content-Type": UNKNOWN_TYPE, "Content-Disposition": attachment(file.name)}
    try:
        await storage.put(str(file.id), aiter(content), headers)
        async with AsyncSessionLocal.begin() as session:
            confirmed = await session.scalar(
                update(File)
                .where(File.id == file.id, File.state == PENDING)
                .values(state=STORED, size=content.size, sha256=content.sha256)
                .returning(File)
            )
        if confirmed is None:
            raise StorageUnavailableError(UPLOAD_LOST)
    except BaseException as error:
        with _left_to_sweep(file.id):
            await _doom(file.id)
            # A storage that did not answer may still be at it, so the row stays.
            await _remove(storage, file.id, forget=not isinstance(error, StorageUnavailableError))
        raise
    return confirmed


async def get_file(session: AsyncSession, file_id: UUID) -> File:
    """Return what is known of a file.

    Raises:
        NotFoundError: there is none with this id.
    """
    file = await session.scalar(select(File).where(File.id == file_id, File.state == STORED))
    if file is None:
        raise NotFoundError("There is no file with this id.")
    return file


async def read_file(session: AsyncSession, file_id: UUID, caller: Caller | None) -> File:
    """Return what is known of a file that the caller may read.

    Raises:
        NotFoundError: there is none with this id that they may read.
    """
    file = await get_file(session, file_id)
    await require(session, caller, Action.READ, file)
    return file


async def delete_file(storage: Storage, file_id: UUID, caller: Caller | None = None) -> None:
    """Delete a file. It cannot be seen any more, even if the storage is away and its object stays until `sweep`.

    Raises:
        NotFoundError: there is none with this id that the caller may read.
        FileForbiddenError: they may not delete it.
    """
    async with AsyncSessionLocal.begin() as session:
        file = await get_file(session, file_id)
        await require(session, caller, Action.DELETE, file)
        doomed = update(File).where(File.id == file.id, File.state == STORED).values(state=DOOMED)
        if await session.scalar(doomed.returning(File.id)) is None:  # Another request was faster.
            raise NotFoundError("There is no file with this id.")
    with _left_to_sweep(file_id):
        await _remove(storage, file_id)


async def sweep(storage: Storage, settings: FileSettings) -> int:
    """Remove what uploads and deletions that were cut off have left. Returns how many files that were.

    Raises:
        UnavailableError: some are still there; all others are gone.
    """
    found = swept = 0
    last = UUID(int=0)
    too_old = func.clock_timestamp() - settings.given_up_after
    leftovers = select(File.id).where(File.state != STORED, File.created_at < too_old).order_by(File.id)
    while True:
        # In the order of their ids, so that one that cannot be removed is not found a second time.
        some = leftovers.where(File.id > last).limit(SWEPT_AT_ONCE)
        # Doomed first: no upload can be confirmed any more whose object is about to go.
        doom = update(File).where(File.id.in_(some), File.state != STORED).values(state=DOOMED).returning(File.id)
        async with AsyncSessionLocal.begin() as session:
            ids = (await session.scalars(doom)).all()
        if not ids:
            break
        for file_id in ids:
            with _left_to_sweep(file_id):
                await _remove(storage, file_id)
                swept += 1
        found += len(ids)
        last = max(ids)
    if swept < found:
        raise UnavailableError(f"{found - swept} of {found} leftovers of files could not be removed: see the log.")
    return swept


async def _doom(file_id: UUID) -> None:
    async with AsyncSessionLocal.begin() as session:
        await session.execute(update(File).where(File.id == file_id).values(state=DOOMED))


async def _remove(storage: Storage, file_id: UUID, *, forget: bool = True) -> None:
    await storage.delete(str(file_id))
    if forget:
        async with AsyncSessionLocal.begin() as session:
            await session.execute(delete(File).where(File.id == file_id, File.state == DOOMED))


@contextmanager
def _left_to_sweep(file_id: UUID) -> Generator[None]:
    try:
        yield
    except Exception as error:
        log.warning("file %s is left to be swept: %r", file_id, error.__cause__ or error)
