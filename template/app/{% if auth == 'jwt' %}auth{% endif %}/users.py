"""What can be done with accounts. Nothing here knows of HTTP; whoever calls owns the transaction."""

from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import passwords, service
from app.auth.models import SignIn, User
from app.auth.schemas import PasswordChange, UserCreate, UserUpdate
from app.core.errors import ConflictError, InvalidInputError, NotFoundError, unique_violation_as
from app.core.pagination import PageRequest, Rows, paginate


async def create_user(session: AsyncSession, new: UserCreate) -> User:
    """Store a new account.

    Raises:
        ConflictError: the name is taken.
    """
    password_hash = await passwords.hash_password(new.password.get_secret_value())
    user = User(username=new.username, password_hash=password_hash, role=new.role)
    session.add(user)
    with unique_violation_as(ConflictError("Another account has this username.")):
        await session.flush()
    return user


async def list_users(session: AsyncSession, page: PageRequest) -> Rows[User]:
    """Return a page of the accounts, newest first."""
    return await paginate(session, User, select(User), page)


async def update_user(session: AsyncSession, user_id: UUID, changes: UserUpdate, by: User) -> User:
    """Give an account another role.

    Raises:
        NotFoundError: there is no such account.
        ConflictError: it is one's own. So there is always somebody left who may do this.
    """
    user = await _other(session, user_id, by)
    user.role = changes.role
    return user


async def delete_user(session: AsyncSession, user_id: UUID, by: User) -> None:
    """Delete an account; its tokens are worth nothing from then on.

    Raises:
        NotFoundError: there is no such account.
        ConflictError: it is one's own. So there is always somebody left who may do this.
    """
    await session.delete(await _other(session, user_id, by))


async def change_password(session: AsyncSession, user: User, change: PasswordChange) -> None:
    """Change one's password, and end all of one's sign-ins: who asks may do so because a token was stolen.

    Raises:
        InvalidInputError: the current password is wrong.
        TooManyAttemptsError: it was wrong too often.
    """
    await session.commit()  # To give the connection back: hashing takes long.
    await service.count_attempt(user.username)
    if not await passwords.is_password(change.current_password.get_secret_value(), user.password_hash):
        raise InvalidInputError("The current password is wrong.")
    user.password_hash = await passwords.hash_password(change.new_password.get_secret_value())
    await service.forget_attempts(session, user.username)
    await session.execute(delete(SignIn).where(SignIn.user_id == user.id))


async def _other(session: AsyncSession, user_id: UUID, by: User) -> User:
    if user_id == by.id:
        raise ConflictError("That is your own account: have another owner do it.")
    user = await session.get(User, user_id)
    if user is None:
        raise NotFoundError("There is no account with this id.")
    return user
