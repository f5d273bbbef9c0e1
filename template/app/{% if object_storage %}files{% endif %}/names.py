"""What may become of the name and the type that an uploader gives a file."""

import re
import unicodedata
from urllib.parse import quote

LONGEST_NAME = 255
"""In bytes of UTF-8, which is what most file systems take."""
LONGEST_SUFFIX = 20
UNNAMED = "file"
UNKNOWN_TYPE = "application/octet-stream"
MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")


def safe_name(given: str) -> str:
    """Return the last part of a path, without what cannot be seen: it is shown to people and never opened."""
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", given))[-1]
    # Control and format characters, among them those that turn the direction of writing, and line separators.
    name = "".join(c for c in name if unicodedata.category(c)[0] != "C" and unicodedata.category(c) not in {"Zl", "Zp"})
    name = name.strip()
    if not name.strip(". "):
        return UNNAMED
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > LONGEST_SUFFIX:
        stem, suffix = name, ""
    room = LONGEST_NAME - len((dot + suffix).encode()) if suffix else LONGEST_NAME
    short = stem.encode()[:room].decode(errors="ignore")
    return f"{short}.{suffix}" if suffix else short


def safe_type(given: str) -> str:
    """Return a media type without its parameters, or the one that says nothing."""
    kind = given.partition(";")[0].strip().lower()
    return kind if MEDIA_TYPE.fullmatch(kind) else UNKNOWN_TYPE


def attachment(name: str) -> str:
    """Return a Content-Disposition that makes browsers save a file under `name`, and never show it.

    Source: RFC 8187, for names beyond ASCII.
    """
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"
