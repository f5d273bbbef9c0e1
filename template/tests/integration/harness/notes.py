"""A small service with a table of its own, on which the harness is tested: it does what real services do, and worse."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter, BackgroundTasks, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import DateTime, String, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.core.db import AsyncSessionLocal
from app.core.deps import Session
from app.core.errors import NotFoundError


class NoteBase(DeclarativeBase):
    """A base of its own: the service's migrations are not to know these tables."""


class Note(NoteBase):
    """A line of text that nobody else has."""

    __tablename__ = "harness_notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    line: Mapped[str] = mapped_column(String(50), unique=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("clock_timestamp()"))
    deleted: Mapped[bool] = mapped_column(server_default=text("false"))


class NoteRead(BaseModel):
    """A note as clients see it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    line: str


router = APIRouter(prefix="/notes", include_in_schema=False)
gate = asyncio.Event()
"""Lets the requests of `/notes/slow` go on."""


@router.post("", status_code=201)
async def create(session: Session, line: str) -> NoteRead:
    """Store a note."""
    note = Note(line=line)
    session.add(note)
    await session.flush()
    return NoteRead.model_validate(note)


@router.get("", response_model=list[NoteRead])
async def read(session: Session, after: int = 0, limit: int = 100) -> Sequence[Note]:
    """Return notes in the order of their creation."""
    visible = select(Note).where(Note.id > after, ~Note.deleted).order_by(Note.id).limit(limit)
    return (await session.scalars(visible)).all()


@router.get("/stream")
async def stream(session: Session) -> int:
    """Count the notes with a server-side cursor."""
    rows = await session.stream(select(Note.id).execution_options(yield_per=10))
    return len([row async for row in rows])


@router.delete("/{note_id}", status_code=204)
async def delete(session: Session, note_id: int) -> None:
    """Hide a note."""
    note = await session.get(Note, note_id)
    if note is None or note.deleted:
        raise NotFoundError("No such note.")
    note.deleted = True


@router.post("/fail")
async def fail(session: Session, line: str) -> None:
    """Store a note, and stumble."""
    session.add(Note(line=line))
    await session.flush()
    raise RuntimeError("on purpose")


@router.post("/handled")
async def handle(session: Session, line: str, other: str) -> int:
    """Try to store a note in a nested transaction; another one in any case."""
    stored = 1
    try:
        async with session.begin_nested():
            session.add(Note(line=line))
        stored = 2
    except IntegrityError:
        pass
    session.add(Note(line=other))
    return stored


@router.post("/half")
async def half(session: Session, kept: str, dropped: str) -> None:
    """Commit one note, and roll another one back."""
    session.add(Note(line=kept))
    await session.commit()
    session.add(Note(line=dropped))
    await session.flush()
    await session.rollback()


@router.post("/sessions")
async def several_sessions(session: Session, first: str, second: str, third: str) -> int:
    """Work with three sessions, one inside another and one after another."""
    session.add(Note(line=first))
    await session.flush()
    async with AsyncSessionLocal() as inner:
        inner.add(Note(line=second))
        await inner.commit()
    async with AsyncSessionLocal() as other:
        other.add(Note(line=third))
        await other.commit()
    return len((await session.scalars(select(Note))).all())


@router.post("/reader")
async def write_while_another_reads(session: Session, first: str, second: str) -> int:
    """Write between the statements of a session that only reads."""
    session.add(Note(line=first))
    await session.flush()
    async with AsyncSessionLocal() as reader:
        before = len((await reader.scalars(select(Note))).all())
        session.add(Note(line=second))
        await session.flush()
        await reader.scalars(select(Note))
    return before


@router.post("/engine")
async def engine(request: Request, line: str) -> None:
    """Work with the engine instead of a session."""
    async with request.app.state.engine.begin() as connection:
        await connection.execute(insert(Note).values(line=line))


@router.post("/background", status_code=202)
async def background(tasks: BackgroundTasks, line: str) -> None:
    """Store a note after the response."""

    async def store() -> None:
        async with AsyncSessionLocal() as session:
            session.add(Note(line=line))
            await session.commit()

    tasks.add_task(store)


@router.post("/slow", status_code=201)
async def slow(session: Session, line: str) -> None:
    """Store a note, and wait before committing it."""
    session.add(Note(line=line))
    await session.flush()
    await gate.wait()


@router.post("/crossing")
async def two_that_need_each_other(first: str, second: str) -> None:
    """Have two tasks write, each before the other one commits."""
    both = asyncio.Barrier(2)

    async def store(line: str) -> None:
        async with AsyncSessionLocal() as session:
            session.add(Note(line=line))
            await session.flush()
            await both.wait()
            await session.commit()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(store(first))
        tasks.create_task(store(second))


@router.post("/outer-rollback")
async def roll_back_around_a_commit(session: Session, inner_line: str, outer_line: str) -> None:
    """Commit in a session inside another one, which is then rolled back."""
    session.add(Note(line=outer_line))
    await session.flush()
    async with AsyncSessionLocal() as inner:
        inner.add(Note(line=inner_line))
        await inner.commit()
    await session.rollback()


@router.get("/n-plus-one")
async def n_plus_one(session: Session) -> list[str]:
    """Ask once for each note."""
    ids = (await session.scalars(select(Note.id))).all()
    return [await session.scalar(select(Note.line).where(Note.id == note_id)) or "" for note_id in ids]


@router.post("/autocommit")
async def autocommit(request: Request, line: str) -> None:
    """Work without transactions: each statement commits by itself."""
    connection = request.app.state.engine.execution_options(isolation_level="AUTOCOMMIT").connect()
    async with connection as plain:
        await plain.execute(insert(Note).values(line=line))
        await plain.rollback()
