"""The tasks' endpoints: below their project where tasks are made and listed, on their own otherwise."""

from uuid import UUID

from fastapi import APIRouter, status

from app.core.deps import Session
from app.core.pagination import Page, PageQuery
from app.tasks import service
from app.tasks.schemas import TaskCreate, TaskRead, TaskUpdate

router = APIRouter(prefix="/api/v1", tags=["tasks"])


@router.post("/projects/{project_id}/tasks", status_code=status.HTTP_201_CREATED)
async def create_task(session: Session, project_id: UUID, new: TaskCreate) -> TaskRead:
    """Add a task to a project."""
    return TaskRead.model_validate(await service.create_task(session, project_id, new))


@router.get("/projects/{project_id}/tasks")
async def list_tasks(session: Session, project_id: UUID, page: PageQuery) -> Page[TaskRead]:
    """List a project's tasks, newest first."""
    return Page[TaskRead].model_validate(await service.list_tasks(session, project_id, page))


@router.patch("/tasks/{task_id}")
async def update_task(session: Session, task_id: UUID, changes: TaskUpdate) -> TaskRead:
    """Change what is given and leave the rest."""
    return TaskRead.model_validate(await service.update_task(session, task_id, changes))


@router.delete("/tasks/{task_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_task(session: Session, task_id: UUID) -> None:
    """Remove a task."""
    await service.delete_task(session, task_id)
