"""The audits' endpoints."""

from fastapi import APIRouter

from app.core.permissions import needs

router = APIRouter(prefix="/api/v1/audits", tags=["audits"])


@router.post("")
@needs("auditor")
async def make_audit() -> str:
    """Make an audit."""
    return "made"
