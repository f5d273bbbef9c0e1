"""What all tables have in common, whichever feature they belong to."""

from collections.abc import Iterator

from sqlalchemy import Column, DateTime, PrimaryKeyConstraint, Table, UniqueConstraint

from app.core.db import Base
from app.core.discovery import load_models

load_models()
TABLES = Base.metadata.sorted_tables


def indexed(table: Table) -> Iterator[list[str]]:
    """Yield the columns by which the rows of a table can be found, in the order of each index."""
    for index in table.indexes:
        if index.dialect_options["postgresql"]["where"] is None:
            yield [part.name if isinstance(part, Column) else "" for part in index.expressions]
    for constraint in table.constraints:
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
            yield [column.name for column in constraint.columns]


def test_every_foreign_key_has_an_index() -> None:
    """Without one, PostgreSQL reads the whole table for each row that is deleted from the table it refers to."""
    missing = [
        f"{table.name}.{'+'.join(key.column_keys)}"
        for table in TABLES
        for key in table.foreign_key_constraints
        if not any({*names[: len(key.columns)]} == {column.name for column in key.columns} for names in indexed(table))
    ]
    assert missing == []


def test_every_time_has_a_zone() -> None:
    """One without means another moment on another machine."""
    naive = [
        str(column)
        for table in TABLES
        for column in table.columns
        if isinstance(column.type, DateTime) and not column.type.timezone
    ]
    assert naive == []
