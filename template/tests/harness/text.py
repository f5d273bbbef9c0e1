"""Messages that fit a screen."""

from collections.abc import Sequence

LONGEST = 500
MOST = 10


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return a text on one line: its beginning and its end, if it is long."""
    line = " ".join(text.split())
    if len(line) <= longest:
        return line
    half = longest // 2
    return f"{line[:half]} ... [{len(line) - 2 * half} more characters] ... {line[-half:]}"


def listed(items: Sequence[str], most: int = MOST) -> list[str]:
    """Return the first items, each shortened, and how many more there are."""
    lines = [shortened(item) for item in items[:most]]
    return lines + ([f"... and {len(items) - most} more"] if len(items) > most else [])
