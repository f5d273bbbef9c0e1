"""What a route needs, unless it says so itself: reading an account, writing the role of an editor."""

from fastapi import Depends
from fastapi.params import Depends as Dependency
from fastapi.routing import APIRoute

from app.auth.deps import editor, reader
from app.core.access import is_open, only_reads

OURS = frozenset({"auth", "users"})
"""The tags of the routes here, each of which says itself who may call it."""


def guard(route: APIRoute) -> list[Dependency]:
    """Return what a request to `route` has to pass."""
    if is_open(route) or not OURS.isdisjoint(route.tags):
        return []
    return [Depends(reader) if only_reads(route) else Depends(editor)]
