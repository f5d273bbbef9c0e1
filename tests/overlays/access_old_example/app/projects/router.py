"""The projects' endpoints."""

from uuid import UUID

from fastapi import APIRouter, Request, Response, status

from app.core.deps import Session
from app.core.openapi import problems
from app.core.pagination import Page, PageQuery
from app.projects import service
from app.projects.schemas import ProjectCreate, ProjectRead, ProjectUpdate

router = APIRouter(prefix="/api/v1/projects", tags=["projects"])


@router.post("", status_code=status.HTTP_201_CREATED, responses=problems(409))
async def create_project(session: Session, new: ProjectCreate, request: Request, response: Response) -> ProjectRead:
    """Create a project. Its name must be free."""
    project = await service.create_project(session, new)
    response.headers["Location"] = str(request.app.url_path_for("get_project", project_id=project.id))
    return ProjectRead.model_validate(project)


@router.get("")
async def list_projects(session: Session, page: PageQuery) -> Page[ProjectRead]:
    """List the projects, newest first."""
    return Page[ProjectRead].model_validate(await service.list_projects(session, page))


@router.get("/{project_id}")
async def get_project(session: Session, project_id: UUID) -> ProjectRead:
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
