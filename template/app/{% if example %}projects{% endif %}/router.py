"""The projects' endpoints."""

from uuid import UUID

from fastapi import APIRouter, Response, status

from app.core.deps import ReadSession, Session
from app.core.openapi import located, problems
from app.core.pagination import Page, PageQuery
from app.core.permissions import open_to_all
from app.projects import service
from app.projects.schemas import ProjectCreate, ProjectRead, ProjectUpdate

router = APIRouter(prefix="/api/v1/projects", tags=["projects"])


@router.post("", status_code=status.HTTP_201_CREATED, responses=located() | problems(409))
async def create_project(session: Session, new: ProjectCreate, response: Response) -> ProjectRead:
    """Create a project. Its name must be free."""
    project = await service.create_project(session, new)
    response.headers["Location"] = f"{router.prefix}/{project.id}"
    return ProjectRead.model_validate(project)


@router.get("")
@open_to_all
async def list_projects(session: ReadSession, page: PageQuery) -> Page[ProjectRead]:
    """List the projects, newest first."""
    return Page[ProjectRead].model_validate(await service.list_projects(session, page))


@router.get("/{project_id}")
@open_to_all
async def get_project(session: ReadSession, project_id: UUID) -> ProjectRead:
    """Return one project."""
    return ProjectRead.model_validate(await service.get_project(session, project_id))


@router.patch("/{project_id}", responses=problems(409))
async def update_project(session: Session, project_id: UUID, changes: ProjectUpdate) -> ProjectRead:
    """Change what is given and leave the rest."""
    return ProjectRead.model_validate(await service.update_project(session, project_id, changes))


@router.delete("/{project_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_project(session: Session, project_id: UUID) -> None:
    """Delete a project, and its tasks with it. Its name is free again."""
    await service.delete_project(session, project_id)
