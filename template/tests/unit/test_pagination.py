"""Cursors: what goes in comes out, and everything else is refused politely."""

import base64
import re
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest

from app.core.errors import InvalidInputError
from app.core.pagination import PageRequest, decode_cursor, encode_cursor


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    ],
)
def test_a_cursor_keeps_its_position(moment: datetime) -> None:
    row_id = uuid4()

    assert decode_cursor(encode_cursor(moment, row_id)) == (moment, row_id)


@pytest.mark.parametrize("cursor", ["A" * 32, "A" + "_" * 31, "AOMHW2MjYAC6ypadTX5JAI8m_9eeDsgv"])
def test_whatever_has_the_form_of_the_document_is_a_position(cursor: str) -> None:
    pattern = PageRequest.model_json_schema()["properties"]["cursor"]["pattern"]
    moment, row_id = decode_cursor(cursor)

    assert re.search(pattern, cursor)
    assert encode_cursor(moment, row_id) == cursor


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "not base64!",
        "ÄÖÜ",
        encoded("no position"),
        encoded(f"2026-01-02T03:04:05 {UUID(int=0)}"),
        encoded("2026-01-02T03:04:05+00:00 no-uuid"),
        encoded(f"0001-01-01T00:00:00+23:59 {UUID(int=0)}"),
        encoded(f"99999-01-02T03:04:05+00:00 {UUID(int=0)}"),
        "B" + "A" * 31,
        "A" * 31,
        "A" * 33,
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    ],
)
def test_a_cursor_from_elsewhere_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInputError, match="not one that this list gave out"):
        decode_cursor(cursor)
