"""The composition root: everything the service is made of, put together in one place."""

import tomllib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.config import Settings, load
from app.core.db import bind_engine, create_engine
from app.core.discovery import include, lifespans, load_models, routers, sections
from app.core.errors import install_error_handlers
from app.core.middleware import (
    AccessLogMiddleware,
    BodyLimitMiddleware,
    BodyMemoryMiddleware,
    HeadMiddleware,
    RequestIdMiddleware,
    RootPathMiddleware,
    SecurityHeadersMiddleware,
    UnhandledErrorMiddleware,
)
from app.core.openapi import DocumentedAPI, operation_id
from app.core.server import serving_process

PYPROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))


def create_app(settings: Settings | None = None, engine: AsyncEngine | None = None) -> FastAPI:
    """Build the service; without arguments from the environment, as the server does.

    Raises:
        pydantic.ValidationError: a setting is missing or not allowed.
    """
    settings = settings or load(Settings)
    for section in sections():
        load(section)
    load_models()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as features:
            features.enter_context(serving_process(settings.shutdown_delay))
            app.state.engine = await features.enter_async_context(bind_engine(engine or create_engine(settings)))
            for feature in lifespans():
                await features.enter_async_context(feature(app))
            yield

    app = DocumentedAPI(
        title=PYPROJECT["tool"]["app"]["title"],
        description=PYPROJECT["project"]["description"],
        version=PYPROJECT["project"]["version"],
        openapi_url="/openapi.json" if settings.api_docs else None,
        generate_unique_id_function=operation_id,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.root_path = settings.root_path
    app.state.settings = settings
    install_error_handlers(app)
    _add_middleware(app, settings)
    for router in routers():
        include(app, router)
    return app


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """Add the middleware, innermost first: the last one added sees a request first and a response last."""
    each, total = settings.max_request_bytes, max(settings.max_request_bytes, settings.max_bodies_bytes)
    app.add_middleware(BodyMemoryMiddleware, max_bytes=total, max_each=each)
    app.add_middleware(
        BodyLimitMiddleware, max_bytes=settings.max_request_bytes, max_seconds=settings.request_body_timeout
    )
    app.add_middleware(HeadMiddleware)
    app.add_middleware(UnhandledErrorMiddleware)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    app.add_middleware(SecurityHeadersMiddleware, https_only=settings.environment == "production")
    app.add_middleware(RootPathMiddleware, root_path=settings.root_path)
    app.add_middleware(AccessLogMiddleware)
    app.add_middleware(RequestIdMiddleware)
