"""No answer grows with the database."""

from fastapi import FastAPI


def test_each_list_has_a_limit(app: FastAPI) -> None:
    """A list is an array, or an object with `items`. A parameter `limit` bounds it, or its own `max_length`."""
    document = app.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation["responses"].get("200", {}).get("content", {})
            answer = content.get("application/json", {}).get("schema", {})
            name = answer.get("$ref", "").rpartition("/")[2]
            schema = document["components"]["schemas"].get(name, answer)
            items = schema.get("properties", {}).get("items", schema)
            limits = [each["schema"] for each in operation.get("parameters", []) if each["name"] == "limit"]
            is_bounded = "maxItems" in items or any("maximum" in limit for limit in limits)
            assert items.get("type") != "array" or is_bounded, f"{method.upper()} {path}"
