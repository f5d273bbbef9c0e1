"""What can go wrong when somebody signs in."""

from datetime import timedelta
from http import HTTPStatus
from math import ceil
from uuid import UUID

from app.core.access import UnauthorizedError
from app.core.errors import RETRY_AFTER, ServiceError


class BadPasswordError(UnauthorizedError):
    """The name or the password is wrong; which of them, nobody is told."""

    def __init__(self, user_id: UUID | None = None) -> None:
        super().__init__("The username or the password is wrong.", "Bearer")
        self.user = str(user_id) if user_id else None
        """The account, for the log."""


class BadTokenError(UnauthorizedError):
    """A token is not one of ours, has expired, or was ended."""

    def __init__(self, detail: str = "The token is not valid, or not any more: sign in again.") -> None:
        super().__init__(detail, 'Bearer error="invalid_token"')


class TooManyAttemptsError(ServiceError):
    """Somebody has tried too often to sign in with a name."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    result = "slowed"

    def __init__(self, wait: timedelta) -> None:
        super().__init__("Too many attempts to sign in with this username. Try again later.")
        self.headers = {"Retry-After": str(max(1, ceil(wait.total_seconds())))}


class TooBusyError(ServiceError):
    """Too many are signing in at the same time."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers = RETRY_AFTER
    result = "busy"

    def __init__(self) -> None:
        super().__init__("Too many are signing in at the moment. Try again.")
