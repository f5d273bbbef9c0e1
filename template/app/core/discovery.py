"""Features are found, not listed: a folder under `app/` takes part by having a `router.py`, `models.py` or `config.py`.

So a feature is added by making its folder and removed by deleting it, and no file has to know them all.
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from types import ModuleType

from fastapi import APIRouter

import app
from app.core.config import Section


def feature_modules(name: str) -> Iterator[ModuleType]:
    """Import and yield `app.<feature>.<name>` of each feature that has such a module, in alphabetical order."""
    for package in iter_modules(app.__path__, prefix="app."):
        module = f"{package.name}.{name}"
        if package.ispkg and package.name != "app.core" and find_spec(module):
            yield import_module(module)


def load_models() -> None:
    """Import every model, so that relationships resolve and `Base.metadata` is complete."""
    for _ in feature_modules("models"):
        pass


def routers() -> Iterator[APIRouter]:
    """Yield the `router` of every `router.py`."""
    for module in feature_modules("router"):
        yield module.router


def sections() -> Iterator[type[Section]]:
    """Yield the settings that each `config.py` defines itself."""
    for module in feature_modules("config"):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Section) and value.__module__ == module.__name__:
                yield value
