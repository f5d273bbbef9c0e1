"""The endpoints to sign in and out, and to manage accounts."""

from uuid import UUID

from fastapi import APIRouter, Response, status

from app.auth import service, tokens, users
from app.auth.config import AuthSettings
from app.auth.deps import CurrentClaims, CurrentUser, Owner
from app.auth.models import SignIn
from app.auth.schemas import PasswordChange, PasswordGrant, RefreshRequest, Tokens, UserCreate, UserRead, UserUpdate
from app.auth.tokens import Use
from app.core.config import load
from app.core.deps import Session
from app.core.openapi import problems
from app.core.pagination import Page, PageQuery
from app.core.permissions import READ, needs, open_to_all

router = APIRouter(prefix="/api/v1")


@router.post("/auth/token", tags=["auth"], responses=problems(401, 429))
@open_to_all
async def sign_in(session: Session, form: PasswordGrant, response: Response) -> Tokens:
    """Sign in with a password."""
    new = await service.sign_in(session, form.username, form.password.get_secret_value())
    return _tokens(new, response)


@router.post("/auth/refresh", tags=["auth"], responses=problems(401))
@open_to_all
async def refresh_tokens(session: Session, request: RefreshRequest, response: Response) -> Tokens:
    """Exchange a refresh token, which can be used once, for new tokens."""
    claims = tokens.read(request.refresh_token, Use.REFRESH)
    return _tokens(await service.refresh(session, claims), response)


@router.post("/auth/logout", tags=["auth"], status_code=status.HTTP_204_NO_CONTENT)
@needs(READ)
async def sign_out(session: Session, claims: CurrentClaims) -> None:
    """End this sign-in: neither its access tokens nor its refresh token are worth anything from now on."""
    await service.sign_out(session, claims.sign_in_id)


@router.get("/users/me", tags=["users"])
async def get_own_user(user: CurrentUser) -> UserRead:
    """Return one's own account."""
    return UserRead.model_validate(user)


@router.put("/users/me/password", tags=["users"], status_code=status.HTTP_204_NO_CONTENT, responses=problems(409, 429))
@needs(READ)
async def change_own_password(
    session: Session, user: CurrentUser, claims: CurrentClaims, change: PasswordChange
) -> None:
    """Change one's own password. It ends all sign-ins, this one included."""
    await users.change_password(session, user, change, claims)


@router.post("/users", tags=["users"], status_code=status.HTTP_201_CREATED, responses=problems(409))
async def create_user(session: Session, _owner: Owner, claims: CurrentClaims, new: UserCreate) -> UserRead:
    """Make an account. Only owners may."""
    return UserRead.model_validate(await users.create_user(session, new, claims))


@router.get("/users", tags=["users"])
async def list_users(session: Session, _owner: Owner, page: PageQuery) -> Page[UserRead]:
    """List the accounts, newest first. Only owners may."""
    return Page[UserRead].model_validate(await users.list_users(session, page))


# Only what is an id is one: `/users/me` would be taken for one otherwise.
@router.patch("/users/{user_id:uuid}", tags=["users"], responses=problems(409))
async def update_user(
    session: Session, _owner: Owner, claims: CurrentClaims, user_id: UUID, changes: UserUpdate
) -> UserRead:
    """Give an account another role. Only owners may, and not to themselves."""
    return UserRead.model_validate(await users.update_user(session, user_id, changes, claims))


@router.delete("/users/{user_id:uuid}", tags=["users"], status_code=status.HTTP_204_NO_CONTENT, responses=problems(409))
async def delete_user(session: Session, _owner: Owner, claims: CurrentClaims, user_id: UUID) -> None:
    """Delete an account. Only owners may, and not their own."""
    await users.delete_user(session, user_id, claims)


def _tokens(sign_in: SignIn, response: Response) -> Tokens:
    response.headers["Cache-Control"] = "no-store"
    return Tokens(
        access_token=tokens.access_token(sign_in),
        refresh_token=tokens.refresh_token(sign_in),
        expires_in=round(load(AuthSettings).access_token_lifetime),
    )
