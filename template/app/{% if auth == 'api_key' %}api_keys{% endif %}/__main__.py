"""Make and revoke API keys: `python -m app.api_keys create NAME`, `python -m app.api_keys revoke NAME`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.api_keys import service
from app.core.config import Settings, explain, load
from app.core.db import AsyncSessionLocal, bind_engine, create_engine
from app.core.errors import ServiceError
from app.core.schemas import Line

LONGEST_NAME = 100


def name(text: str) -> str:
    """Return the name of a key, as it was given on the command line.

    Raises:
        ValueError: it is blank, too long, or not one line.
    """
    text = TypeAdapter(Line).validate_python(text)
    if len(text) > LONGEST_NAME:
        raise ValueError
    return text


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what is to be done."""
    parser = argparse.ArgumentParser(prog="python -m app.api_keys", description="Make and revoke API keys.")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key, and print it: nobody sees it again")
    create.add_argument(
        "--read-only", action="store_true", help="the key may read what is not open, and change nothing"
    )
    revoke = commands.add_parser("revoke", help="make a key worthless")
    for command in (create, revoke):
        command.add_argument("name", type=name, help="what it is for, in up to 100 characters")
    return parser.parse_args(arguments)


async def run(options: argparse.Namespace, session: AsyncSession) -> str:
    """Do it, and return what to print.

    Raises:
        ServiceError: it cannot be done.
    """
    if options.command == "create":
        return await service.create_key(session, options.name, may_write=not options.read_only)
    await service.revoke_key(session, options.name)
    return f"The key {options.name!r} is revoked."


async def run_on_database(options: argparse.Namespace) -> str:
    """Do it in the database that the settings name."""
    async with bind_engine(create_engine(load(Settings))), AsyncSessionLocal.begin() as session:
        return await run(options, session)


def main(arguments: Sequence[str]) -> int:
    """Run one of the commands. Returns the exit code."""
    options = parse(arguments)
    try:
        print(asyncio.run(run_on_database(options)))
    except ValidationError as error:
        print(explain(error), file=sys.stderr)
        return 2
    except (ServiceError, DBAPIError, OSError) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
