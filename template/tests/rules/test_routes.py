"""Every route is guarded."""

from fastapi import FastAPI


def test_there_is_no_route_beside_those_of_the_features(app: FastAPI) -> None:
    """Nothing stands guard over a route that `app` has by itself."""
    documentation = {app.openapi_url, app.docs_url, app.swagger_ui_oauth2_redirect_url, app.redoc_url}

    assert {getattr(route, "path", None) for route in app.routes} - documentation - {None} == set()
