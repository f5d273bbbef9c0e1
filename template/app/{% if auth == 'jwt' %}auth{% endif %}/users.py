"""What can be done with accounts. Nothing here knows of HTTP; whoever calls owns the transaction."""

from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import attempts, passwords, service, strength
from app.auth.errors import TooBusyError, TooManyAttemptsError
from app.auth.models import Role, SignIn, User
from app.auth.schemas import PasswordChange, UserCreate, UserUpdate
from app.auth.tokens import Claims
from app.core.access import ForbiddenError
from app.core.errors import ConflictError, InvalidInputError, NotFoundError, unique_violation_as
from app.core.pagination import PageRequest, Rows, paginate
from app.core.security import current_client, record, record_commit


async def create_user(session: AsyncSession, new: UserCreate, by: Claims | None = None) -> User:
    """Store a new account. `by` is the owner who asks for it; without, it is a program that may.

    Raises:
        ConflictError: the name is taken.
        InvalidInputError: the password is easy to guess.
    """
    if by is not None:
        await session.commit()  # To give the connection back: hashing takes long.
    async with passwords.QUEUE.turn(str(by.user_id) if by else "", known=by is not None) as run:
        password_hash = await run(_hash_new, new.password.get_secret_value(), new.username)
    if by is not None:
        await _lock(session, by)
    user = User(username=new.username, password_hash=password_hash, role=new.role)
    session.add(user)
    with unique_violation_as(ConflictError("Another account has this username.")):
        await session.flush()
    record_commit(session, "account_created", account=str(user.id), role=user.role)
    return user


async def list_users(session: AsyncSession, page: PageRequest) -> Rows[User]:
    """Return a page of the accounts, newest first."""
    return await paginate(session, User, select(User), page)


async def update_user(session: AsyncSession, user_id: UUID, changes: UserUpdate, by: Claims) -> User:
    """Give an account another role.

    Raises:
        NotFoundError: there is no such account.
        ConflictError: it is one's own. So there is always somebody left who may do this.
    """
    user = await _other(session, user_id, by)
    user.role = changes.role
    record_commit(session, "role_changed", account=str(user.id), role=user.role)
    return user


async def delete_user(session: AsyncSession, user_id: UUID, by: Claims) -> None:
    """Delete an account; its tokens are worth nothing from then on.

    Raises:
        NotFoundError: there is no such account.
        ConflictError: it is one's own. So there is always somebody left who may do this.
    """
    await session.delete(await _other(session, user_id, by))
    record_commit(session, "account_deleted", account=str(user_id))


async def change_password(session: AsyncSession, user: User, change: PasswordChange, by: Claims) -> None:
    """Change one's password, and end all of one's sign-ins: who asks may do so because a token was stolen.

    Raises:
        InvalidInputError: the current password is wrong, or the new one is easy to guess.
        ConflictError: the password was changed, or the sign-in ended, at the same time.
        TooManyAttemptsError: it was wrong too often.
    """
    verified = user.password_hash
    await session.commit()  # To give the connection back: hashing takes long.
    try:
        guess = await attempts.check(user.username, current_client().network)
        async with passwords.QUEUE.turn(str(user.id), known=True) as run:
            new_password = change.new_password.get_secret_value()
            await run(strength.refuse_guessable, new_password, user.username)
            await attempts.count(guess)
            if not await run(passwords.verify, change.current_password.get_secret_value(), verified):
                raise InvalidInputError("The current password is wrong.")
            password_hash = await run(passwords.HASHER.hash, new_password)
    except (InvalidInputError, TooManyAttemptsError, TooBusyError) as error:
        record("password_change", getattr(error, "result", "failed"))
        raise
    unchanged = update(User).where(User.id == user.id, User.password_hash == verified)
    changed = await session.scalar(unchanged.values(password_hash=password_hash).returning(User.id))
    ended = await session.scalars(delete(SignIn).where(SignIn.user_id == user.id).returning(SignIn.id))
    if changed is None or by.sign_in_id not in ended.all():
        raise ConflictError("The password was changed, or the sign-in ended, at the same time.")
    await attempts.succeed(session, guess)
    record_commit(session, "password_change")


def _hash_new(password: str, username: str) -> str:
    strength.refuse_guessable(password, username)
    return passwords.HASHER.hash(password)


async def _other(session: AsyncSession, user_id: UUID, by: Claims) -> User:
    if user_id == by.user_id:
        raise ConflictError("That is your own account: have another owner do it.")
    user = (await _lock(session, by, user_id)).get(user_id)
    if user is None:
        raise NotFoundError("There is no account with this id.")
    return user


async def _lock(session: AsyncSession, by: Claims, *others: UUID) -> dict[UUID, User]:
    """Lock accounts until the transaction ends, and check again that `by` is signed in and an owner.

    Two owners who demote or delete each other wait for each other's transaction here, in the order of their ids, and
    the second is not an owner any more. So there is always one left.

    Raises:
        BadTokenError: the sign-in has ended since the request was let through.
        ForbiddenError: the caller is no owner any more.
    """
    rows = select(User).where(User.id.in_([by.user_id, *others])).order_by(User.id).with_for_update()
    accounts = {user.id: user for user in await session.scalars(rows.execution_options(populate_existing=True))}
    caller = await service.authenticate(session, by, lock=True)
    if caller.role != Role.OWNER:
        raise ForbiddenError("This needs the role owner.")
    return accounts
