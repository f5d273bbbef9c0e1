"""The OpenAPI document: stable operation ids for generated clients, and every error declared."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from app.core.discovery import feature_modules
from app.core.documentation import add_pages
from app.core.errors import Problem, ProblemResponse, ValidationProblem

READING = ("get", "head", "options")
FASTAPI_ERROR_SCHEMAS = ("HTTPValidationError", "ValidationError")

PROBLEM_HEADERS = {
    HTTPStatus.METHOD_NOT_ALLOWED: "Allow",
    HTTPStatus.TOO_MANY_REQUESTS: "Retry-After",
    HTTPStatus.SERVICE_UNAVAILABLE: "Retry-After",
}
"""The header that comes with every error of a status."""


def operation_id(route: APIRoute) -> str:
    """Name an operation after its function, which must therefore be the only one of that name."""
    return route.name


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare errors of one route, beyond those that `DocumentedAPI` declares by itself: `responses=problems(410)`."""
    return {status: _problem(status) for status in statuses}


def located(status: int = HTTPStatus.CREATED) -> dict[int | str, dict[str, Any]]:
    """Declare that a response says in `Location` where to go: `responses=located() | problems(410)`."""
    return {status: {"headers": {"Location": _header("uri-reference")}}}


class DocumentedAPI(FastAPI):
    """FastAPI whose document declares the errors that any operation can answer, as problem documents.

    Each `guard.py` with a function `protect(app)` guards it, which returns what writes that into the document.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        modules = [module for module in feature_modules("guard") if hasattr(module, "protect")]
        self.document_access: list[Callable[[dict[str, Any]], None]] = [module.protect(self) for module in modules]

    def setup(self) -> None:
        """Add the routes of the document and of its pages, which FastAPI's own would load from other hosts."""
        urls = self.docs_url, self.redoc_url
        self.docs_url = self.redoc_url = None
        super().setup()
        self.docs_url, self.redoc_url = urls
        if self.openapi_url:
            add_pages(self)

    def openapi(self) -> dict[str, Any]:
        """Return the document; it is made once."""
        if self.openapi_schema is None:
            schema = super().openapi()
            for document in self.document_access:
                document(schema)
            for path, operations in schema["paths"].items():
                for method, operation in operations.items():
                    _declare_problems(method, path, operation)
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            for name in FASTAPI_ERROR_SCHEMAS:
                schemas.pop(name, None)
            models = [(Problem, "serialization"), (ValidationProblem, "serialization")]
            _, ours = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
            schemas.update(ours["$defs"])
            _declare_root_path(schema, self.root_path)
        return self.openapi_schema or {}


def _declare_root_path(schema: dict[str, Any], root_path: str) -> None:
    """Put the path prefix before the addresses in the security schemes, and declare it as the server."""
    if not root_path:
        return
    schema.setdefault("servers", [{"url": root_path}])
    for scheme in schema["components"].get("securitySchemes", {}).values():
        for flow in scheme.get("flows", {}).values():
            paths = {key: url for key, url in flow.items() if key.endswith("Url") and url.startswith("/")}
            flow.update((key, root_path + url) for key, url in paths.items())


def _declare_problems(method: str, path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    statuses = [405, 500, 503]
    if method not in READING:  # A constraint of the database may be against it.
        statuses.append(409)
    if "{" in path:
        statuses.append(404)
    if "requestBody" in operation:
        statuses += [400, 408, 413, 422]
    elif "422" in responses:
        statuses.append(422)
    if operation.get("security"):
        statuses += [401, 403]
    responses.update((str(status), _problem(status)) for status in statuses)


def _problem(status: int) -> dict[str, Any]:
    schema = ValidationProblem if status == HTTPStatus.UNPROCESSABLE_ENTITY else Problem
    reference = {"$ref": f"#/components/schemas/{schema.__name__}"}
    response: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {ProblemResponse.media_type: {"schema": reference}},
    }
    if header := PROBLEM_HEADERS.get(HTTPStatus(status)):
        response["headers"] = {header: _header()}
    return response


def _header(form: str | None = None) -> dict[str, Any]:
    return {"required": True, "schema": {"type": "string"} | ({"format": form} if form else {})}
