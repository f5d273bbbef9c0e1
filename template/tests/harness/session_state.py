"""Which statements set something for their transaction or for their session, beside the rows that they write.

A real COMMIT ends `SET LOCAL`, empties or drops temporary tables, and closes cursors; a savepoint that is released does
none of that. So the sandbox has to know of them. A function whose body says it counts like the statement that calls it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

STATEMENT = r"(?:^|;)\s*"
SET = re.compile(
    STATEMENT + r"(set|reset)\s+(?:(local|session)\s+)?(time\s+zone|session\s+authorization|[\w.]+|\"[^\"]+\")", re.I
)
SET_CONFIG = re.compile(r"\bset_config\s*\(", re.I)
TEMPORARY = re.compile(
    r"\bcreate\s+(?:(?:local|global)\s+)?temp(?:orary)?\s+table\s+(?:if\s+not\s+exists\s+)?(?:pg_temp\.)?(\w+|\"[^\"]+\")"
    r"(?:[^;]*?\bon\s+commit\s+(drop|delete))?",
    re.I,
)
DECLARE = re.compile(STATEMENT + r"declare\s+(\w+)\s([^;]*?)cursor\s+(with\s+hold)?", re.I)
LASTING = re.compile(STATEMENT + r"prepare\s+\w|\bpg_(?:try_)?advisory_lock|\btemp(?:orary)?\s+table\b", re.I)
REFUSED = re.compile(STATEMENT + r"(listen|prepare\s+transaction)\b", re.I)
DEFINES = re.compile(r"\bcreate\s+(or\s+replace\s+)?(function|procedure)\b", re.I)
ROLLBACK = re.compile(r"\s*rollback\b", re.I)
ANY = re.compile(
    r"\b(?:(?:re)?set|rollback|set_config|declare|prepare|listen|function|procedure)\b|\btemp|advisory", re.I
)
ALIASES = {
    "time zone": ["timezone"],
    "authorization": ["session_authorization"],
    "session authorization": ["session_authorization"],
    "names": ["client_encoding"],
    "schema": ["search_path"],
    "characteristics": ["default_transaction_isolation", "default_transaction_read_only"],
}
NO_SETTINGS = frozenset(
    {"constraints", "seed", "transaction", "transaction_isolation", "transaction_read_only", "transaction_deferrable"}
)
EVERYTHING = "all"

Operand = str | int | None
"""A text, the number of the parameter that has it, or None if it cannot be told."""


@dataclass(frozen=True)
class Change:
    """A setting that a statement changes, and whether only until its transaction ends."""

    name: Operand
    is_local: Operand

    def resolved(self, arguments: tuple[object, ...]) -> tuple[str | None, bool]:
        """Return both as they are with these parameters."""
        name, is_local = (arguments[each - 1] if isinstance(each, int) else each for each in (self.name, self.is_local))
        return None if name is None else str(name).lower(), str(is_local).lower() in ("true", "t", "on", "1", "yes")


@dataclass(frozen=True)
class Effects:
    """What a statement does beside reading and writing rows."""

    changes: tuple[Change, ...]
    on_commit: tuple[str, ...]
    """SQL that does what PostgreSQL does at the end of its transaction."""
    on_commits: tuple[str, ...]
    """SQL that does what PostgreSQL does at the end of each transaction from now on."""
    defines: bool
    """Whether it makes a function."""
    lasts: bool
    """Whether it may leave something that no rollback removes."""
    refused: str | None
    """What the sandbox cannot do at all."""


@lru_cache(maxsize=1000)
def effects_of(sql: str) -> Effects | None:
    """Return what a statement does beside reading and writing rows; None if that is all."""
    if not ANY.search(sql):
        return None
    refused = REFUSED.search(sql)
    effects = Effects(
        changes=tuple(changes_in(sql)),
        on_commit=tuple(at_commit(sql)),
        on_commits=tuple(at_each_commit(sql)),
        defines=bool(DEFINES.search(sql)),
        lasts=bool(LASTING.search(sql)),
        refused=refused[1].upper() if refused else None,
    )
    return effects if any(vars(effects).values()) else None


def changes_in(sql: str) -> Iterator[Change]:
    """Yield the settings that a statement, or the body of a function, changes."""
    for verb, scope, name in SET.findall(sql):
        plain = " ".join(name.strip('"').lower().split())
        if plain not in NO_SETTINGS:
            for each in ALIASES.get(plain, [plain]):
                yield Change(each, "true" if scope.lower() == "local" and verb.lower() == "set" else "false")
    if ROLLBACK.match(sql):  # To a savepoint: it may undo any of them.
        yield Change(EVERYTHING, "false")
    for call in SET_CONFIG.finditer(sql):
        operands = [operand(text) for text in arguments_from(sql, call.end())]
        if len(operands) == 3:
            yield Change(operands[0], operands[2])


def at_commit(sql: str) -> Iterator[str]:
    """Yield the SQL that drops temporary tables and closes cursors, as COMMIT does."""
    for table, action in TEMPORARY.findall(sql):
        if action.lower() == "drop":
            yield f"DROP TABLE IF EXISTS pg_temp.{table}"
    for cursor, _, hold in DECLARE.findall(sql):
        if not hold:
            found = f"EXISTS (SELECT FROM pg_cursors WHERE name = '{cursor.lower()}')"
            yield f"DO $$ BEGIN IF {found} THEN EXECUTE 'CLOSE {cursor}'; END IF; END $$"


def at_each_commit(sql: str) -> Iterator[str]:
    """Yield the SQL that empties temporary tables, as COMMIT does."""
    for table, action in TEMPORARY.findall(sql):
        if action.lower() == "delete":
            found = f"to_regclass('pg_temp.{table}') IS NOT NULL"
            yield f"DO $$ BEGIN IF {found} THEN TRUNCATE pg_temp.{table}; END IF; END $$"


def arguments_from(sql: str, start: int) -> list[str]:
    """Return the arguments of the call whose parenthesis opens before `start`."""
    found: list[str] = []
    depth, in_quotes, begin = 0, False, start
    for position in range(start, len(sql)):
        letter = sql[position]
        if letter == "'":
            in_quotes = not in_quotes
        elif not in_quotes and letter in "([":
            depth += 1
        elif not in_quotes and (letter in ")]" or letter == ",") and depth == 0:
            found.append(sql[begin:position].strip())
            begin = position + 1
            if letter != ",":
                break
        elif not in_quotes and letter in ")]":
            depth -= 1
    return found


def quoted(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def operand(text: str) -> Operand:
    """Return what an argument is: a text, or the number of a parameter. None if it is neither."""
    plain = text.partition("::")[0].strip()
    if cast := re.fullmatch(r"cast\((.*) as \w+\)", plain, re.I | re.S):
        plain = cast[1].strip()
    if parameter := re.fullmatch(r"\$(\d+)", plain):
        return int(parameter[1])
    if literal := re.fullmatch(r"'([^']*)'|(true|false)", plain, re.I):
        return literal[1] or literal[2]
    return None


def effects_of_functions(bodies: Mapping[str, str]) -> dict[str, tuple[Change, ...]]:
    """Return the functions that change settings. Their parameters are unknown here, so only fixed names count."""
    found: dict[str, tuple[Change, ...]] = {}
    for name, body in bodies.items():
        marked = re.sub(r"\b(begin|then|else|loop|perform|execute)\b", r"; \g<0>;", body, flags=re.I)
        in_strings = "".join(f";{text};" for text in re.findall(r"'([^']*)'", body))  # For EXECUTE.
        every = (*changes_in(marked), *changes_in(in_strings))
        changes = tuple(change for change in every if isinstance(change.name, str))
        if changes:
            found[name] = changes
    return found
