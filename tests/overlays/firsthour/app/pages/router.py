"""Routes that an owner could write: pages, and answers with headers that the service also sets."""

from fastapi import APIRouter, Request, Response, WebSocket
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

router = APIRouter()


@router.get("/page", response_class=HTMLResponse)
async def get_page() -> HTMLResponse:
    """Return a page."""
    return HTMLResponse("<!doctype html><title>Ours</title><script src='/page.js'></script>")


@router.get("/page.js")
async def get_script() -> Response:
    """Return the page's script, as a static file would be."""
    return Response("1", media_type="text/javascript", headers={"ETag": '"1"'})


@router.get("/strict-page", response_class=HTMLResponse)
async def get_strict_page() -> HTMLResponse:
    """Return a page that says itself what it may load, and for how long it is kept."""
    return HTMLResponse("", headers={"content-security-policy": "sandbox", "Cache-Control": "max-age=60"})


@router.get("/api/v1/notes/1")
async def get_note() -> JSONResponse:
    """Return a note with an ETag."""
    return JSONResponse({}, headers={"ETag": '"1"'})


@router.post("/api/v1/notes", status_code=201)
async def create_note(response: Response) -> None:
    """Name the address of what was made by hand."""
    response.headers["Location"] = "/api/v1/notes/1"


@router.get("/elsewhere")
async def redirect(to: str) -> RedirectResponse:
    """Redirect to any address."""
    return RedirectResponse(to)


@router.get("/absolute")
async def get_absolute(request: Request) -> list[str]:
    """Return complete addresses: of a note, and of the next page."""
    return [str(request.url_for("get_note")), str(request.url.include_query_params(page=2))]


@router.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    """Greet."""
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()
