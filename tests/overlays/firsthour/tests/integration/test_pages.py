"""What browsers may do with responses: pages of the documentation, pages of a feature, and what is stored."""

import base64
import hashlib
import re

import httpx
import pytest

DOCUMENTATION = ["/docs", "/redoc", "/docs/oauth2-redirect"]


@pytest.mark.parametrize("page", DOCUMENTATION)
async def test_documentation_scripts_are_allowed_by_hash(client: httpx.AsyncClient, page: str) -> None:
    response = await client.get(page)
    policy = response.headers["content-security-policy"]
    scripts = re.search(r"script-src ([^;]*);", policy)
    assert scripts

    inline = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    assert scripts[1].split() == ["'self'", *(f"'sha256-{digest(script)}'" for script in inline)]
    assert inline or page == "/redoc"
    assert re.findall(r"https?:|//[a-z]", re.sub(r"<script>.*?</script>", "", response.text, flags=re.DOTALL)) == []
    assert policy.startswith("default-src 'none'; ")


def digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


async def test_documentation_assets_are_static_files(client: httpx.AsyncClient) -> None:
    url = "/docs/assets/swagger-ui-bundle.js"
    whole, head = await client.get(url), await client.head(url)
    again = await client.get(url, headers={"If-None-Match": whole.headers["etag"]})

    assert (whole.status_code, head.status_code, again.status_code) == (200, 200, 304)
    assert "cache-control" not in whole.headers
    assert (await client.get("/docs/assets/..%2F__init__.py")).status_code == 404
    assert (await client.get("/docs/assets/nothing.js")).headers["content-type"] == "application/problem+json"


async def test_a_page_may_load_what_the_service_has(client: httpx.AsyncClient) -> None:
    page, script = await client.get("/page"), await client.get("/page.js")

    assert page.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert "unsafe-inline" not in page.headers["content-security-policy"]
    assert script.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert page.headers["cache-control"] == "no-store"
    assert "cache-control" not in script.headers


async def test_a_page_may_bring_its_own_policy(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/strict-page")).headers

    assert headers.get_list("content-security-policy") == ["sandbox"]
    assert headers.get_list("cache-control") == ["max-age=60"]


async def test_an_api_answer_is_not_stored_although_it_has_an_etag(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/api/v1/notes/1")).headers

    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"].startswith("default-src 'none'; ")
