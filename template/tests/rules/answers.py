"""What a client can rely on: an error is one that the OpenAPI document declares."""

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import Scope


def refuse_undeclared(request: str, app: FastAPI, scope: Scope, response: httpx.Response) -> None:
    """Fail if an operation of the document answers an error that is not there with its status and its media type."""
    status, route = response.status_code, scope.get("route")
    if status < httpx.codes.BAD_REQUEST or not isinstance(route, APIRoute):
        return
    operation = app.openapi()["paths"].get(route.path_format, {}).get(scope["method"].lower())
    if operation is None:
        return
    media_type = response.headers.get("content-type", "").partition(";")[0]
    if media_type not in operation["responses"].get(str(status), {}).get("content", {}):
        raise AssertionError(
            f"{request} answered {status} as {media_type or 'nothing'}, which its OpenAPI document does not declare: "
            f"raise a ServiceError, and give the route responses=problems({status})"
        )
