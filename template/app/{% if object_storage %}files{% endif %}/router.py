"""The files' endpoints."""

from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Request, Response, status
from fastapi.responses import RedirectResponse
from starlette.requests import ClientDisconnect

from app.core.deps import ReadSession
from app.core.middleware import allow_body
from app.core.openapi import located, problems
from app.core.permissions import caller_of
from app.files import service
from app.files.deps import CurrentFileSettings, CurrentStorage, end_transaction
from app.files.form import MOST_AROUND, FileForm
from app.files.schemas import UPLOAD_FORM, FileRead

router = APIRouter(prefix="/api/v1/files", tags=["files"])


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    dependencies=[Depends(end_transaction)],
    responses=located() | problems(400, 408, 415, 422),
    openapi_extra=UPLOAD_FORM,
)
async def upload_file(
    storage: CurrentStorage, settings: CurrentFileSettings, request: Request, response: Response
) -> FileRead:
    """Upload a file, as the part `file` of a form."""
    allow_body(request, settings.max_upload_bytes + MOST_AROUND, settings.upload_timeout)
    form = FileForm(request.headers.get("content-type", ""), request.stream())
    try:
        file = await service.upload(storage, form, settings, caller_of(request))
    except ClientDisconnect as error:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "The body ended too early.") from error
    response.headers["Location"] = str(request.app.url_path_for("get_file", file_id=file.id))
    return FileRead.model_validate(file)


@router.get("/{file_id}")
async def get_file(request: Request, session: ReadSession, file_id: UUID) -> FileRead:
    """Return what is known of a file."""
    return FileRead.model_validate(await service.read_file(session, file_id, caller_of(request)))


@router.head("/{file_id}/content", include_in_schema=False)
@router.get(
    "/{file_id}/content",
    status_code=status.HTTP_307_TEMPORARY_REDIRECT,
    response_class=RedirectResponse,
    responses=located(status.HTTP_307_TEMPORARY_REDIRECT),
)
async def get_file_content(
    request: Request, session: ReadSession, storage: CurrentStorage, file_id: UUID
) -> RedirectResponse:
    """Redirect to the content: a URL at the storage that works for a minute, for whoever has it."""
    file = await service.read_file(session, file_id, caller_of(request))
    # The signature covers the method, with which clients follow a redirect of this status.
    link = await storage.link(str(file.id), method="HEAD" if request.method == "HEAD" else "GET")
    return RedirectResponse(link, headers={"Cache-Control": "no-store"})


@router.delete(
    "/{file_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=[Depends(end_transaction)],
    responses=problems(403),
)
async def delete_file(request: Request, storage: CurrentStorage, file_id: UUID) -> None:
    """Delete a file."""
    await service.delete_file(storage, file_id, caller_of(request))
