"""What a route needs: a key, and for writing one that may write."""

from fastapi import Depends
from fastapi.params import Depends as Dependency
from fastapi.routing import APIRoute

from app.api_keys.deps import reading_key, writing_key
from app.core.access import is_open, only_reads


def guard(route: APIRoute) -> list[Dependency]:
    """Return what a request to `route` has to pass."""
    if is_open(route):
        return []
    return [Depends(reading_key) if only_reads(route) else Depends(writing_key)]
