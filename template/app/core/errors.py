"""Errors, and the one place that turns them into responses.

Services raise a `ServiceError`; every error leaves the service as a problem document (RFC 9457). The database's errors
are recognised by SQLSTATE, PostgreSQL's manual, appendix "PostgreSQL Error Codes", and by its class:

- 409: class 23 (integrity constraints, NOT NULL and CHECK included: they speak of the stored row), 44, and what a
  trigger raises (P0001);
- 422: class 22 (values, those that the driver cannot encode included) and 54 (limits), if the request has any input;
- 503: class 40 (transaction rollback), its time-outs, and connections, resources, operators (08, 28, 3D, 53, 57, 58);
- 500: all others, such as 42 (a bug in the SQL).
"""

import json
import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPMethod, HTTPStatus
from traceback import walk_tb
from typing import Any
from urllib.parse import quote

import asyncpg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
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
EXCLUSION_VIOLATION = "23P01"
SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
ROLLBACK_SQLSTATE_CLASS = "40"  # transaction_rollback
TRANSIENT_SQLSTATES = frozenset(
    {
        SERIALIZATION_FAILURE,
        DEADLOCK_DETECTED,
        "55P03",  # lock_not_available
        "57014",  # query_canceled: statement_timeout
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
    }
)
UNAVAILABLE_SQLSTATE_CLASSES = (
    "08",  # connection_exception
    "25006",  # read_only_sql_transaction: connected to a standby, as after a failover
    "28",  # invalid_authorization_specification: the service could not log in
    "3D",  # invalid_catalog_name: there is no such database
    "53",  # insufficient_resources
    "57",  # operator_intervention
    "58",  # system_error
)
CONFLICT_SQLSTATES = (
    "23",  # integrity_constraint_violation
    "44",  # with_check_option_violation
    "P0001",  # raise_exception: RAISE EXCEPTION in a trigger
)
INPUT_SQLSTATES = (
    "22",  # data_exception: out of range, malformed, too long; also what the driver cannot encode
    "54",  # program_limit_exceeded: a value too long for its index, a statement with too many parameters
)
CONFLICTS = {
    UNIQUE_VIOLATION: "The same values are already taken.",
    EXCLUSION_VIOLATION: "The request overlaps with something that is already stored.",
    FOREIGN_KEY_VIOLATION: "The request breaks a reference between two records.",
    "23001": "The request breaks a reference between two records.",  # restrict_violation: RESTRICT since PostgreSQL 18
}
"""What is said of violations that a service expects; of any other one, `CONFLICT`."""
CONFLICT = "The request breaks a rule of the stored data."
INVALID_VALUE = "A value of the request cannot be stored: it is malformed, too long or out of range."


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


ANYTHING = TypeAdapter[Any](Any, config=ConfigDict(ser_json_bytes="base64"))


class ProblemResponse(JSONResponse):
    """A problem document as a response."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """Encode any content: NaN as null, and a lone surrogate, which UTF-8 cannot represent, as a question mark."""
        plain = ANYTHING.dump_python(content, mode="json", fallback=str)
        finite = json.loads(json.dumps(plain), parse_constant=lambda _name: None)
        return json.dumps(finite, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def problem_response(
    instance: str,
    status: int,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> ProblemResponse:
    """Build the response for an error at the path `instance`. `members` extend the document (RFC 9457, 3.2)."""
    common: dict[str, Any] = {
        "title": HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error",
        "status": status,
        "detail": detail,
        "instance": instance,
        "request_id": request_id.get(),
    }
    is_validation = status == HTTPStatus.UNPROCESSABLE_ENTITY
    problem = ValidationProblem(**common, errors=list(errors)) if is_validation else Problem(**common)
    content = problem.model_dump() | dict(members or {})
    return ProblemResponse(content, status_code=status, headers=dict(headers or {}))


@contextmanager
def unique_violation_as(error: ServiceError) -> Generator[None]:
    """Raise `error` instead, when a flush in the block violates a unique or an exclusion constraint."""
    try:
        yield
    except IntegrityError as violation:
        if sqlstate(violation) not in (UNIQUE_VIOLATION, EXCLUSION_VIOLATION):
            raise
        raise error from violation


def sqlstate(error: DBAPIError | asyncpg.PostgresError) -> str:
    """Return the five characters by which PostgreSQL names an error, or an empty string."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def install_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every error with a problem document."""
    app.exception_handler(HTTPException)(_handle_http)
    app.exception_handler(RequestValidationError)(_handle_validation)
    app.exception_handler(ServiceError)(_handle_service)
    app.exception_handler(StatementError)(_handle_statement)
    app.exception_handler(DBAPIError)(_handle_database)
    app.exception_handler(asyncpg.PostgresError)(_handle_database)  # From the driver's own methods, such as COPY.
    app.exception_handler(StaleDataError)(_handle_stale)
    app.exception_handler(PoolTimeoutError)(_unavailable)
    app.exception_handler(TimeoutError)(_handle_timeout)


async def _handle_http(request: Request, error: HTTPException) -> ProblemResponse:
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    detail, members = _described(error.detail, error.status_code)
    return problem_response(request.url.path, error.status_code, detail, headers=headers, members=members)


def _described(detail: object, status: int) -> tuple[str, dict[str, Any]]:
    """Return the text of an `HTTPException`, whose detail may be any JSON value, and what extends the document."""
    if isinstance(detail, str):
        return detail, {}
    given = detail if isinstance(detail, Mapping) else {"details": detail}
    members = {str(name): value for name, value in given.items()}
    for name in ("status", "instance", "request_id"):
        members.pop(name, None)
    for name in ("type", "title", "detail"):
        if not isinstance(members.get(name, ""), str):
            members[f"{name}s"] = members.pop(name)
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error"
    text = members.pop("detail", None) or members.get("message") or phrase
    return str(text), members


def _allowed_methods(request: Request) -> list[str]:
    # The router names those of the first route with this path, but each method of a resource has a route of its own.
    scopes = [dict(request.scope, method=method.value) for method in HTTPMethod]
    routes = request.app.routes
    methods = {scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


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


async def _handle_timeout(request: Request, error: TimeoutError) -> ProblemResponse:
    # Only one of the driver's own methods is the database's: within a session it has another class already.
    modules = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
    if any(module.startswith("asyncpg.") for module in modules):
        return await _unavailable(request, error)
    raise error


async def _handle_stale(request: Request, _error: StaleDataError) -> ProblemResponse:
    return await _handle_service(request, ConflictError("Somebody else has changed this at the same time."))


async def _unavailable(request: Request, cause: Exception, detail: str = DATABASE_AWAY) -> ProblemResponse:
    error = DatabaseUnavailableError(detail)
    error.__cause__ = cause
    return await _handle_service(request, error)


async def _handle_statement(request: Request, error: StatementError) -> ProblemResponse:
    # A type refused a value before it got to the driver, as `Enum` and `Uuid` do.
    if isinstance(error.orig, ValueError | LookupError | ArithmeticError) and _has_input(request):
        return await _handle_service(request, InvalidInputError(INVALID_VALUE))
    raise error


def _has_input(request: Request) -> bool:
    """Say whether a value can be the client's fault; without any, it is one of the code's."""
    length = request.headers.get("content-length", "0")
    return bool(request.path_params or request.query_params or length != "0" or "transfer-encoding" in request.headers)


def _driver_error(error: DBAPIError | asyncpg.PostgresError) -> BaseException | None:
    return error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error


def _note(status: int, error: DBAPIError | asyncpg.PostgresError) -> None:
    """Log what leads to the cause. PostgreSQL's own message would hold values of the request."""
    cause = _driver_error(error)
    names = [getattr(cause, name, None) for name in ("table_name", "column_name", "constraint_name")]
    where = " ".join(name for name in names if name)
    log.warning("answered with %d: SQLSTATE %s, %s %s", status, sqlstate(error), type(cause).__name__, where)


def _is_stale_plan(error: DBAPIError | asyncpg.PostgresError) -> bool:
    # A migration changed a table under a prepared statement, which the driver prepares again the next time.
    return isinstance(_driver_error(error), asyncpg.InvalidCachedStatementError)


async def _handle_database(request: Request, error: DBAPIError | asyncpg.PostgresError) -> ProblemResponse:
    state = sqlstate(error)
    if state.startswith(CONFLICT_SQLSTATES):
        if state not in CONFLICTS:
            _note(HTTPStatus.CONFLICT, error)
        return await _handle_service(request, ConflictError(CONFLICTS.get(state, CONFLICT)))
    if state.startswith(INPUT_SQLSTATES) and _has_input(request):
        _note(HTTPStatus.UNPROCESSABLE_ENTITY, error)
        return await _handle_service(request, InvalidInputError(INVALID_VALUE))
    if state in TRANSIENT_SQLSTATES or state.startswith(ROLLBACK_SQLSTATE_CLASS) or _is_stale_plan(error):
        return await _unavailable(request, error, "The database was too busy with other requests. Try again.")
    if getattr(error, "connection_invalidated", False) or state.startswith(UNAVAILABLE_SQLSTATE_CLASSES):
        return await _unavailable(request, error)
    raise error
