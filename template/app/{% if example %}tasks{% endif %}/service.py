"""What can be done with the tasks of projects."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import NotFoundError
from app.core.pagination import PageRequest, Rows, paginate
from app.projects.models import Project
from app.projects.service import get_project
from app.tasks.models import Task
from app.tasks.schemas import TaskCreate, TaskUpdate


async def create_task(session: AsyncSession, project_id: UUID, new: TaskCreate) -> Task:
    """Add a task to a project.

    Raises:
        NotFoundError: there is no such project.
    """
    project = await get_project(session, project_id, lock=True)
    task = Task(project_id=project.id, **new.model_dump())
    session.add(task)
    await session.flush()
    return task


async def list_tasks(session: AsyncSession, project_id: UUID, page: PageRequest) -> Rows[Task]:
    """Return a page of a project's tasks, newest first.

    Raises:
        NotFoundError: there is no such project.
    """
    project = await get_project(session, project_id)
    return await paginate(session, Task, select(Task).where(Task.project_id == project.id), page)


async def update_task(session: AsyncSession, task_id: UUID, changes: TaskUpdate) -> Task:
    """Apply the changes that were given.

    Raises:
        NotFoundError: there is no such task.
    """
    task = await _get_task(session, task_id)
    for field, value in changes.model_dump(exclude_unset=True).items():
        setattr(task, field, value)
    await session.flush()
    return task


async def delete_task(session: AsyncSession, task_id: UUID) -> None:
    """Remove a task.

    Raises:
        NotFoundError: there is no such task.
    """
    await session.delete(await _get_task(session, task_id, lock=True))


async def _get_task(session: AsyncSession, task_id: UUID, *, lock: bool = False) -> Task:
    visible = select(Task).join(Project).where(Task.id == task_id, Project.deleted_at.is_(None))
    task = await session.scalar(visible.with_for_update(of=Task) if lock else visible)
    if task is None:
        raise NotFoundError("There is no task with this id.")
    return task
