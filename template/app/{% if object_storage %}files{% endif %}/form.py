"""A form with one file, read while it arrives: neither memory nor disk ever holds the whole of it."""

from collections.abc import AsyncIterator
from http import HTTPStatus

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.core.errors import InvalidInputError, ServiceError
from app.files.names import safe_name, safe_type

FIELD = b"file"
BLOCK_SIZE = 64 * 1024
MOST_HEADERS = 8
LONGEST_HEADER = 4 * 1024
MOST_AROUND = 64 * 1024
"""How many bytes a form may have around its file."""

EXPECTED = "The form must have one part, a file with the name `file`"


class UnsupportedTypeError(ServiceError):
    """The body is of a kind that is not taken."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class FileForm:
    """Reads a form of the media type `multipart/form-data` (RFC 7578): `open` it, then go through its `blocks`.

    Raises:
        UnsupportedTypeError: `content_type` is another one.
        InvalidInputError: there is no such form, also from both methods.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise UnsupportedTypeError("Send the file as multipart/form-data.")
        if not options.get(b"boundary"):
            raise InvalidInputError("The form's Content-Type has no boundary.")
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_to_header_name,
                    "on_header_value": self._add_to_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_end": self._end,
                },
                max_header_count=MOST_HEADERS,
                max_header_size=LONGEST_HEADER,
            )
        except FormParserError as error:
            raise InvalidInputError("The form's boundary is too long.") from error
        self._body = body
        self._parts = 0
        self._header_name, self._header_value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._data = bytearray()
        self._is_open = self._is_complete = False
        self.name = self.content_type = ""

    async def open(self) -> None:
        """Read as far as to know the file's `name` and `content_type`."""
        async for chunk in self._body:
            self._feed(chunk)
            if self._is_open:
                return
        raise InvalidInputError(f"{EXPECTED}.")

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the content: never many small blocks, each of which costs something, however it arrives."""
        async for chunk in self._body:
            self._feed(chunk)
            if len(self._data) >= BLOCK_SIZE:
                yield self._take()
        if not self._is_complete:
            raise InvalidInputError("The form ends before its last boundary.")
        yield self._take()

    def _feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidInputError("The form is malformed.") from error

    def _take(self) -> bytes:
        block = bytes(self._data)
        self._data.clear()
        return block

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise InvalidInputError(f"{EXPECTED}, and no other.")

    def _add_to_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_to_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name, self._header_value = b"", b""

    def _end_headers(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        if kind != b"form-data" or options.get(b"name") != FIELD or not options.get(b"filename"):
            raise InvalidInputError(f"{EXPECTED} and a file name of its own.")
        self.name = safe_name(options[b"filename"].decode(errors="replace"))
        self.content_type = safe_type(self._headers.get(b"content-type", b"").decode("latin-1"))
        self._is_open = True

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _end(self) -> None:
        self._is_complete = True
