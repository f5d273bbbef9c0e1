"""Features are found, not listed: a folder under `app/` takes part by what is in it.

- `router.py` has a `router` with its endpoints,
- `models.py` has its tables,
- `config.py` has its settings, a `Section`,
- `lifespan.py` has a context manager `lifespan(app)`, open for as long as the service runs,
- `guard.py` has a function `guard(route)`: the dependencies that a request to any feature's `route` has to pass,
  or a function `protect(app)`, which puts a guard around the whole application.

So a feature is added by making its folder and removed by deleting it, and no file has to know them all. A folder needs
no `__init__.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from types import ModuleType

from fastapi import APIRouter, FastAPI
from fastapi.params import Depends
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute

import app
from app.core.config import Section


def feature_modules(name: str) -> Iterator[ModuleType]:
    """Import and yield `app.<feature>.<name>` of each feature that has such a module, in alphabetical order."""
    folders = {child.name for parent in app.__path__ for child in Path(parent).iterdir() if child.is_dir()}
    for folder in sorted(folders - {"core", "__pycache__"}):
        if folder.isidentifier() and find_spec(f"app.{folder}.{name}"):
            yield import_module(f"app.{folder}.{name}")


def load_models() -> None:
    """Import every model, so that relationships resolve and `Base.metadata` is complete."""
    for _ in feature_modules("models"):
        pass


def routers() -> Iterator[APIRouter]:
    """Yield the `router` of every `router.py`."""
    for module in feature_modules("router"):
        yield module.router


def include(app: FastAPI, router: APIRouter) -> None:
    """Add the routes of `router` to `app`, each with the dependencies that every `guard.py` wants it to have."""
    guards = [module.guard for module in feature_modules("guard") if hasattr(module, "guard")]

    def dependencies_of(route: BaseRoute) -> list[Depends]:
        """Return the dependencies of a route, or of all that are in a router within this one."""
        inner = [context.original_route for context in iter_route_contexts([route])]
        each = [[d for guard in guards for d in guard(leaf)] for leaf in inner if isinstance(leaf, APIRoute)]
        if any(dependencies != each[0] for dependencies in each):
            raise RuntimeError("A guard.py tells apart routes that come in one include_router: give each a router.py.")
        return each[0] if each else []

    # Not one router within another: FastAPI goes through the routes twice at each level, for each request.
    for dependencies, routes in groupby(router.routes, dependencies_of):
        app.include_router(APIRouter(routes=list(routes)), dependencies=dependencies)


def sections() -> Iterator[type[Section]]:
    """Yield the settings that each `config.py` defines itself."""
    for module in feature_modules("config"):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Section) and value.__module__ == module.__name__:
                yield value


def lifespans() -> Iterator[Callable[[FastAPI], AbstractAsyncContextManager[None]]]:
    """Yield the `lifespan` of every `lifespan.py`."""
    for module in feature_modules("lifespan"):
        yield module.lifespan
