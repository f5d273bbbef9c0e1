"""Errors, and the one place that turns them into responses.

Services raise a `ServiceError`; every error leaves the service as a problem document (RFC 9457). The database's errors
are recognised by SQLSTATE, PostgreSQL's manual, appendix "PostgreSQL Error Codes".
"""

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPMethod, HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.core.logging import request_id
from app.core.security import record

log = logging.getLogger(__name__)

DATABASE_AWAY = "The database is not available at the moment."
RETRY_AFTER = {"Retry-After": "1"}
UNIQUE_VIOLATION = "23505"
FOREIGN_KEY_VIOLATION = "23503"
SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
TRANSIENT_SQLSTATES = frozenset(
    {
        SERIALIZATION_FAILURE,
        DEADLOCK_DETECTED,
        "55P03",  # lock_not_available
        "57014",  # query_canceled: statement_timeout
        "25P03",  # idle_in_transaction_session_timeout
    }
)
UNAVAILABLE_SQLSTATE_CLASSES = ("08", "53", "57P", "58")  # connection, resources, operator intervention, system


class ServiceError(Exception):
    """An error the client is to be told about. Subclasses set the status; the message becomes the detail."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    headers: Mapping[str, str] = {}


class NotFoundError(ServiceError):
    """What was asked for does not exist, or does not any more."""

    status = HTTPStatus.NOT_FOUND


class ConflictError(ServiceError):
    """The request contradicts what is stored."""

    status = HTTPStatus.CONFLICT


class InvalidInputError(ServiceError):
    """A value was well-formed, but makes no sense here."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class UnavailableError(ServiceError):
    """The service cannot do its work at the moment; the same request may succeed shortly."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers = RETRY_AFTER


class DatabaseUnavailableError(UnavailableError):
    """The database cannot be reached, or is too busy."""

    def __init__(self, detail: str = DATABASE_AWAY) -> None:
        super().__init__(detail)


class Problem(BaseModel):
    """The body of every error (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no such page."])
    instance: str = Field(description="The path of the request.", examples=["/api/v1/things/1"])
    request_id: str | None = Field(description="The same as in the header X-Request-ID and in the service's log.")


class FieldError(BaseModel):
    """What is wrong with one value of the request."""

    location: list[str | int] = Field(examples=[["body", "name"]])
    message: str = Field(examples=["Field required"])


class ValidationProblem(Problem):
    """The body of a 422: a problem with a list of what is wrong."""

    errors: list[FieldError] = []


class ProblemResponse(JSONResponse):
    """A problem document as a response."""

    media_type = "application/problem+json"


def problem_response(
    instance: str,
    status: int,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> ProblemResponse:
    """Build the response for an error at the path `instance`."""
    common: dict[str, Any] = {
        "title": HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error",
        "status": status,
        "detail": detail,
        "instance": instance,
        "request_id": request_id.get(),
    }
    is_validation = status == HTTPStatus.UNPROCESSABLE_ENTITY
    problem = ValidationProblem(**common, errors=list(errors)) if is_validation else Problem(**common)
    return ProblemResponse(problem.model_dump(), status_code=status, headers=dict(headers or {}))


@contextmanager
def unique_violation_as(error: ServiceError) -> Generator[None]:
    """Raise `error` instead, when a flush in the block violates a unique constraint."""
    try:
        yield
    except IntegrityError as violation:
        if sqlstate(violation) != UNIQUE_VIOLATION:
            raise
        raise error from violation


def sqlstate(error: DBAPIError) -> str:
    """Return the five characters by which PostgreSQL names an error, or an empty string."""
    return getattr(error.orig, "sqlstate", None) or ""


def install_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every error with a problem document."""
    app.exception_handler(HTTPException)(_handle_http)
    app.exception_handler(RequestValidationError)(_handle_validation)
    app.exception_handler(ServiceError)(_handle_service)
    app.exception_handler(DBAPIError)(_handle_database)
    app.exception_handler(StaleDataError)(_handle_stale)
    app.exception_handler(PoolTimeoutError)(_handle_timeout)
    app.exception_handler(TimeoutError)(_handle_timeout)  # asyncpg's `command_timeout`, which SQLAlchemy lets through


async def _handle_http(request: Request, error: HTTPException) -> ProblemResponse:
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return problem_response(request.url.path, error.status_code, f"{error.detail}", headers=headers)


def _allowed_methods(request: Request) -> list[str]:
    # The router names those of the first route with this path, but each method of a resource has a route of its own.
    scopes = [dict(request.scope, method=method.value) for method in HTTPMethod]
    routes = request.app.routes
    return [scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)]


async def _handle_validation(request: Request, error: RequestValidationError) -> ProblemResponse:
    errors = [FieldError(location=list(item["loc"]), message=item["msg"]) for item in error.errors()]
    detail = "The request is not valid: see `errors`."
    return problem_response(request.url.path, HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


async def _handle_service(request: Request, error: ServiceError) -> ProblemResponse:
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("answered with %d: %r", error.status, error.__cause__ or error)
    if error.status == HTTPStatus.FORBIDDEN:
        record("request", "forbidden", method=request.method, path=quote(request.url.path))
    return problem_response(request.url.path, error.status, str(error), headers=error.headers)


async def _handle_timeout(request: Request, error: TimeoutError | PoolTimeoutError) -> ProblemResponse:
    return await _unavailable(request, error)


async def _handle_stale(request: Request, _error: StaleDataError) -> ProblemResponse:
    return await _handle_service(request, ConflictError("Somebody else has changed this at the same time."))


async def _unavailable(request: Request, cause: Exception, detail: str = DATABASE_AWAY) -> ProblemResponse:
    error = DatabaseUnavailableError(detail)
    error.__cause__ = cause
    return await _handle_service(request, error)


async def _handle_database(request: Request, error: DBAPIError) -> ProblemResponse:
    state = sqlstate(error)
    if state == UNIQUE_VIOLATION:
        return await _handle_service(request, ConflictError("The same values are already taken."))
    if state == FOREIGN_KEY_VIOLATION:
        return await _handle_service(request, ConflictError("The request breaks a reference between two records."))
    if state in TRANSIENT_SQLSTATES:
        return await _unavailable(request, error, "The database was too busy with other requests. Try again.")
    if error.connection_invalidated or state.startswith(UNAVAILABLE_SQLSTATE_CLASSES):
        return await _unavailable(request, error)
    raise error
