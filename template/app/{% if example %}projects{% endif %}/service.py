"""What can be done with projects. Nothing here knows of HTTP; whoever calls owns the transaction."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import ConflictError, NotFoundError, unique_violation_as
from app.core.pagination import PageRequest, Rows, paginate
from app.projects.models import Project
from app.projects.schemas import ProjectCreate, ProjectUpdate

VISIBLE = select(Project).where(Project.deleted_at.is_(None))
# Put together once: for each request, that would take longer than to run it.
WITH_ID = VISIBLE.where(Project.id == bindparam("id"))
LOCKED = WITH_ID.with_for_update(read=True)


async def create_project(session: AsyncSession, new: ProjectCreate) -> Project:
    """Store a new project.

    Raises:
        ConflictError: another project has the name.
    """
    project = Project(**new.model_dump())
    session.add(project)
    await _flush(session)
    return project


async def list_projects(session: AsyncSession, page: PageRequest) -> Rows[Project]:
    """Return a page of the projects, newest first."""
    return await paginate(session, Project, VISIBLE, page)


async def get_project(session: AsyncSession, project_id: UUID, *, lock: bool = False) -> Project:
    """Return one project; with `lock`, it cannot be changed or deleted before the transaction ends.

    Raises:
        NotFoundError: there is none with this id, or it was deleted.
    """
    project = await session.scalar(LOCKED if lock else WITH_ID, {"id": project_id})
    if project is None:
        raise NotFoundError("There is no project with this id.")
    return project


async def update_project(session: AsyncSession, project_id: UUID, changes: ProjectUpdate) -> Project:
    """Apply the changes that were given.

    Raises:
        NotFoundError: there is no such project.
        ConflictError: another project has the new name.
    """
    project = await get_project(session, project_id)
    for field, value in changes.model_dump(exclude_unset=True).items():
        setattr(project, field, value)
    await _flush(session)
    return project


async def delete_project(session: AsyncSession, project_id: UUID) -> None:
    """Hide a project and its tasks, and free its name.

    Raises:
        NotFoundError: there is no such project.
    """
    visible = update(Project).where(Project.id == project_id, Project.deleted_at.is_(None))
    if await session.scalar(visible.values(deleted_at=datetime.now(UTC)).returning(Project.id)) is None:
        raise NotFoundError("There is no project with this id.")


async def _flush(session: AsyncSession) -> None:
    # Asking first whether the name is free would lose a race; the index decides.
    with unique_violation_as(ConflictError("Another project has this name.")):
        await session.flush()
