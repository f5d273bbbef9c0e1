"""The OpenAPI document, from which clients are generated."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    paths = document["paths"].items()
    return [(path, method, operation) for path, methods in paths for method, operation in methods.items()]


async def test_it_is_served(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    response = await client.get("/openapi.json")

    assert response.status_code == 200
    assert response.json() == document


def test_each_operation_has_an_id_of_its_own(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]

    assert len(ids) == len(set(ids))


def test_each_operation_says_what_it_does(document: dict[str, Any]) -> None:
    assert [path for path, _, operation in operations(document) if not operation.get("description")] == []


def test_each_operation_declares_its_errors(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        expected = {"405", "500", "503"}
        expected |= {"404", "422"} if "{" in path else set()
        expected |= set() if method in ("get", "head", "options") else {"409"}
        expected |= {"400", "413", "422"} if "requestBody" in operation else set()
        assert expected <= set(operation["responses"]), f"{method} {path}"


def test_each_error_is_a_problem_document(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        for status, answer in errors.items():
            schema = "ValidationProblem" if status == "422" else "Problem"
            reference = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
            assert answer["content"] == {"application/problem+json": reference}, f"{method} {path} {status}"


def test_each_error_declares_the_header_that_comes_with_it(document: dict[str, Any]) -> None:
    declared = [
        (status, name)
        for _, _, operation in operations(document)
        for status, answer in operation["responses"].items()
        for name, header in answer.get("headers", {}).items()
        if header["required"] and status >= "400"
    ]
    everywhere = len(operations(document))

    assert declared.count(("405", "Allow")) == everywhere
    assert declared.count(("503", "Retry-After")) == everywhere


async def test_a_body_that_is_no_text_is_a_bad_request(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        if "application/json" in operation.get("requestBody", {}).get("content", {}) and not operation.get("security"):
            headers = {"content-type": "application/json"}
            response = await client.request(method, path, content=b"\xff", headers=headers)
            assert str(response.status_code) in operation["responses"], f"{method} {path}"


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [reference for value in node.values() for reference in references(value)]
        return [reference for value in node for reference in references(value)] if isinstance(node, list) else []

    schemas = document["components"]["schemas"]
    assert {reference.rsplit("/", 1)[1] for reference in references(document)} <= set(schemas)
