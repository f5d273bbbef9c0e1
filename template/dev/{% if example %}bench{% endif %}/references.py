"""What the service is compared with: FastAPI routes that do the same queries, and nothing else.

`bare` has the service's engine and its queries in an ordinary session, without its middleware, dependencies, services
and errors. `raw` is as fast as FastAPI and PostgreSQL can be put together: it speaks to the driver.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import FastAPI, Query
from sqlalchemy import make_url, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.config import Settings
from app.core.db import create_engine
from app.projects.models import Project
from app.projects.schemas import ProjectCreate, ProjectRead

Limit = Annotated[int, Query(ge=1, le=100)]
ONE = "SELECT id, name, description, created_at FROM projects WHERE deleted_at IS NULL AND id = $1"
NEWEST = """
    SELECT id, name, description, created_at FROM projects WHERE deleted_at IS NULL
    ORDER BY created_at DESC, id DESC LIMIT $1
"""
NEW = """
    INSERT INTO projects (id, name, description) VALUES (gen_random_uuid(), $1, $2)
    RETURNING id, name, description, created_at
"""


def bare() -> FastAPI:
    """Make the reference with SQLAlchemy: an ordinary session on the service's engine."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        app.state.engine = create_engine(Settings())
        yield
        await app.state.engine.dispose()

    app = FastAPI(lifespan=lifespan)

    def session() -> AsyncSession:
        return AsyncSession(app.state.engine, expire_on_commit=False)

    @app.get("/api/v1/projects/{project_id}")
    async def get_project(project_id: UUID) -> ProjectRead:
        async with session() as db:
            project = await db.scalar(select(Project).where(Project.deleted_at.is_(None), Project.id == project_id))
            return ProjectRead.model_validate(project)

    @app.get("/api/v1/projects")
    async def list_projects(limit: Limit = 20) -> list[ProjectRead]:
        async with session() as db:
            visible = select(Project).where(Project.deleted_at.is_(None))
            newest = visible.order_by(Project.created_at.desc(), Project.id.desc()).limit(limit + 1)
            projects = (await db.scalars(newest)).all()
            return [ProjectRead.model_validate(project) for project in projects[:limit]]

    @app.post("/api/v1/projects", status_code=201)
    async def create_project(new: ProjectCreate) -> ProjectRead:
        async with session() as db:
            project = Project(**new.model_dump())
            db.add(project)
            await db.commit()
            return ProjectRead.model_validate(project)

    return app


def raw() -> FastAPI:
    """Make the reference without SQLAlchemy."""
    url = make_url(os.environ["DATABASE_URL"])
    there = url.translate_connect_args(username="user") | dict(url.query)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with asyncpg.create_pool(**there, min_size=10, max_size=20) as app.state.pool:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/api/v1/projects/{project_id}")
    async def get_project(project_id: UUID) -> ProjectRead:
        async with app.state.pool.acquire() as connection:
            return ProjectRead(**await connection.fetchrow(ONE, project_id))

    @app.get("/api/v1/projects")
    async def list_projects(limit: Limit = 20) -> list[ProjectRead]:
        async with app.state.pool.acquire() as connection:
            return [ProjectRead(**row) for row in (await connection.fetch(NEWEST, limit + 1))[:limit]]

    @app.post("/api/v1/projects", status_code=201)
    async def create_project(new: ProjectCreate) -> ProjectRead:
        async with app.state.pool.acquire() as connection, connection.transaction():
            return ProjectRead(**await connection.fetchrow(NEW, new.name, new.description))

    return app
