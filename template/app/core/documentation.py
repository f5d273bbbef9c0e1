"""The pages that show the OpenAPI document, `/docs` and `/redoc`: all that they load comes from this service.

Each has a Content-Security-Policy that allows its own scripts only: those of this origin, and inline ones by hash.
"""

import base64
import hashlib
import re
from html import escape

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from fastapi.staticfiles import StaticFiles

from app.core.permissions import open_to_all

ASSETS = "/docs/assets"
INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
POLICY = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The styles are those that Swagger UI and ReDoc write themselves; a script needs the origin or its hash."""


def add_pages(app: FastAPI) -> None:
    """Serve the pages at `app.docs_url` and `app.redoc_url`, and what they load below `ASSETS`. All of it is open."""
    title = escape(app.title)

    def address(request: Request, path: str) -> str:
        return f"{request.scope.get('root_path', '').rstrip('/')}{path}"

    @open_to_all
    async def swagger_ui(request: Request) -> Response:
        redirect = app.swagger_ui_oauth2_redirect_url
        page = get_swagger_ui_html(
            openapi_url=address(request, str(app.openapi_url)),
            title=f"{title} - Swagger UI",
            swagger_js_url=address(request, f"{ASSETS}/swagger-ui-bundle.js"),
            swagger_css_url=address(request, f"{ASSETS}/swagger-ui.css"),
            swagger_favicon_url=address(request, f"{ASSETS}/favicon.png"),
            oauth2_redirect_url=address(request, redirect) if redirect else None,
            init_oauth=app.swagger_ui_init_oauth,
            swagger_ui_parameters=app.swagger_ui_parameters,
        )
        return with_policy(page)

    @open_to_all
    async def oauth2_redirect(_request: Request) -> Response:
        return with_policy(get_swagger_ui_oauth2_redirect_html())

    @open_to_all
    async def redoc(request: Request) -> Response:
        page = get_redoc_html(
            openapi_url=address(request, str(app.openapi_url)),
            title=f"{title} - ReDoc",
            redoc_js_url=address(request, f"{ASSETS}/redoc.standalone.js"),
            redoc_favicon_url=address(request, f"{ASSETS}/favicon.png"),
            with_google_fonts=False,
        )
        return with_policy(page)

    if app.docs_url:
        app.add_route(app.docs_url, swagger_ui, include_in_schema=False)
        if app.swagger_ui_oauth2_redirect_url:
            app.add_route(app.swagger_ui_oauth2_redirect_url, oauth2_redirect, include_in_schema=False)
    if app.redoc_url:
        app.add_route(app.redoc_url, redoc, include_in_schema=False)
    if app.docs_url or app.redoc_url:
        app.include_router(assets())


def assets() -> APIRouter:
    """Return a router for the scripts and styles of Swagger UI and ReDoc, which are in a package."""
    router = APIRouter()
    files = StaticFiles(packages=[("fastapi_offline", "static")])

    @router.api_route(ASSETS + "/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    @open_to_all
    async def documentation_asset(request: Request, name: str) -> Response:
        return await files.get_response(name, request.scope)

    return router


def with_policy(page: Response) -> Response:
    """Allow a page its own inline scripts, by their hashes (CSP Level 3, section 8.3), and no others."""
    digests = [hashlib.sha256(script).digest() for script in INLINE_SCRIPT.findall(bytes(page.body))]
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    page.headers["Content-Security-Policy"] = POLICY.format(scripts=scripts)
    return page
