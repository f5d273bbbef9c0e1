"""Object storage: any that speaks S3, with signatures of version 4. Nothing connects before the first use."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Literal

import obstore
from obstore.store import S3Store

from app.core.errors import RETRY_AFTER, ServiceError
from app.files.config import REQUEST_TIMEOUT, RETRIES, FileSettings

PARTS_AT_ONCE = 2
CONNECT_TIMEOUT = timedelta(seconds=5)
ERROR_CODE = re.compile(r"<Code>(\w+)</Code>")
LINK_LIFETIME = timedelta(minutes=1)


class StorageUnavailableError(ServiceError):
    """The object storage cannot be reached, or refuses what is asked; the same request may succeed shortly."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers = RETRY_AFTER

    def __init__(self, detail: str = "The file storage is not available at the moment.") -> None:
        super().__init__(detail)


class Storage:
    """A bucket, and within it the objects whose keys begin with `prefix`."""

    def __init__(self, settings: FileSettings, prefix: str = "files") -> None:
        self.uploads = 0
        """How many uploads are under way."""
        self._part_size = settings.part_size
        self._store = self._public_store = None
        if settings.s3_endpoint_url:
            self._store = make_store(settings, settings.s3_endpoint_url, prefix)
            public_url = settings.s3_public_endpoint_url or settings.s3_endpoint_url
            self._public_store = make_store(settings, public_url, prefix)

    async def put(self, key: str, blocks: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        """Store an object part by part. It comes into being when all is there, or not at all.

        Raises:
            StorageUnavailableError: it may nevertheless have come into being.
        """
        store = _given(self._store)
        # What pulls the blocks is a task of the library's. They are read here and handed over one by one, so that
        # whatever ends the request reaches the library as an error, upon which it aborts what it has begun.
        handed: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        failed = False

        async def pull() -> AsyncGenerator[bytes]:
            while block := await handed.get():
                yield block
            if failed:
                raise _AbortedError

        upload = asyncio.ensure_future(
            obstore.put_async(
                store, key, pull(), attributes=headers, chunk_size=self._part_size, max_concurrency=PARTS_AT_ONCE
            )
        )
        # Nobody takes blocks from an upload that is over: make room for the one that is waiting.
        upload.add_done_callback(lambda _: handed.empty() or handed.get_nowait())
        try:
            async for block in blocks:
                if upload.done():
                    break
                if block:
                    await handed.put(block)
            if not upload.done():
                await handed.put(None)
            with _translated():
                await asyncio.shield(upload)
        except BaseException:
            failed = True
            if not upload.done():
                await handed.put(None)
                await asyncio.wait([upload])
            if not upload.cancelled():
                upload.exception()  # So that nobody complains that it was never looked at.
            raise

    async def delete(self, key: str) -> None:
        """Delete an object, if there is one.

        Raises:
            StorageUnavailableError: it may still be there.
        """
        store = _given(self._store)
        with _translated():
            await obstore.delete_async(store, key)

    async def link(self, key: str, lifetime: timedelta = LINK_LIFETIME, method: Literal["GET", "HEAD"] = "GET") -> str:
        """Return a URL at which anybody can use `method` on an object for a while.

        Raises:
            StorageUnavailableError: there is no storage.
        """
        store = _given(self._public_store)
        with _translated():
            return await obstore.sign_async(store, method, key, lifetime)


class _RefusedError(Exception):
    """What the storage has refused and why, without what else it says: that may be all of the signed request."""

    def __init__(self, error: Exception) -> None:
        code = ERROR_CODE.search(f"{error}")
        super().__init__(f"{error}".partition("\n")[0].partition("<")[0] + (code[1] if code else ""))


class _AbortedError(Exception):
    """The blocks ended before the object did."""


def make_store(settings: FileSettings, url: str, prefix: str) -> S3Store:
    """Make the library's client for the bucket, reached at `url`, and the keys that begin with `prefix`."""
    return S3Store(
        settings.s3_bucket_name,
        prefix=prefix,
        aws_endpoint_url_s3=url,
        region=settings.s3_region,
        # Given in this way, no other credentials in the environment get mixed with them.
        credential_provider=lambda: {
            "access_key_id": settings.s3_access_key_id,
            "secret_access_key": settings.s3_secret_access_key,
            "token": None,
            "expires_at": None,
        },
        skip_signature=False,
        virtual_hosted_style_request=False,
        client_options={
            "allow_http": url.startswith("http://"),
            "connect_timeout": CONNECT_TIMEOUT,
            "timeout": REQUEST_TIMEOUT,
        },
        retry_config={"max_retries": RETRIES, "retry_timeout": REQUEST_TIMEOUT},
    )


def _given(store: S3Store | None) -> S3Store:
    if store is None:
        raise StorageUnavailableError("The service was started without a file storage: S3_ENDPOINT_URL is not set.")
    return store


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except Exception as error:  # Not only the library's own: where it panics, it raises a bare one.
        raise StorageUnavailableError from _RefusedError(error)
