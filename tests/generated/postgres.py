"""A PostgreSQL server of the tests' own, seen from outside: which databases it has, and what is in them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg


class Server:
    """A server that is reached through a socket, as a superuser."""

    def __init__(self, url: str) -> None:
        assert url.startswith("postgresql+asyncpg://"), f"no server: {url!r}"
        self.sockets = Path(parse_qs(urlsplit(url).query)["host"][0])

    def url(self, database: str = "postgres", user: str = "postgres", password: str = "") -> str:
        """Return the address of one of its databases, for one of its roles."""
        who = f"{user}:{password}" if password else user
        return f"postgresql+asyncpg://{who}@/{database}?host={quote(str(self.sockets), safe='')}"

    def run(self, *statements: str, database: str = "postgres") -> None:
        """Run statements, each in a transaction of its own."""

        async def work() -> None:
            connection = await asyncpg.connect(host=str(self.sockets), user="postgres", database=database)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(work())

    def rows(self, query: str, database: str = "postgres") -> Sequence[tuple[Any, ...]]:
        """Return what a query finds."""

        async def work() -> Sequence[tuple[Any, ...]]:
            connection = await asyncpg.connect(host=str(self.sockets), user="postgres", database=database)
            try:
                return [tuple(row.values()) for row in await connection.fetch(query)]
            finally:
                await connection.close()

        return asyncio.run(work())

    def databases(self) -> set[str]:
        """Return the names of its databases."""
        return {str(name) for (name,) in self.rows("SELECT datname FROM pg_database")}

    def drop_all_but(self, databases: set[str]) -> None:
        """Remove every other database."""
        self.run(*(f'DROP DATABASE "{name}" WITH (FORCE)' for name in self.databases() - databases))

    def ask_for_password(self, role: str) -> None:
        """Let a role in with its password only; everybody else needs none."""
        (path,) = self.rows("SHOW hba_file")[0]
        rules = Path(path)
        rules.write_text(f"local all {role} scram-sha-256\n{rules.read_text()}")
        self.run("SELECT pg_reload_conf()")
