"""Security events: who did what, from where, and with which result, on the logger `app.security`.

No event has a password, a token, a key, or the name that an unknown account was asked for: people type their password
into the wrong field.
"""

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from sqlalchemy.event import listens_for
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

log = logging.getLogger("app.security")

UNCOMMITTED = "security_events"
"""Where a session keeps the events that it has not committed."""
IPV6_NETWORK_BITS = 64
"""One subscriber has at least a /64, and with it any number of addresses (RFC 6177)."""


@dataclass
class Client:
    """Who sends a request: the address, and the identity as soon as it is known."""

    address: str = ""
    identity: str | None = None

    @property
    def network(self) -> str:
        """The address, or the /64 of one of IPv6: what limits count by. Empty if it is no IP address."""
        try:
            address = ip_address(self.address)
        except ValueError:
            return ""
        if not isinstance(address, IPv6Address):
            return str(address)
        return str(address.ipv4_mapped or IPv6Address(int(address) >> IPV6_NETWORK_BITS << IPV6_NETWORK_BITS))


client: ContextVar[Client | None] = ContextVar("client", default=None)
"""Who sends the request being served; None outside of one."""


def current_client() -> Client:
    """Return who sends the request being served; outside of one, an unknown client."""
    return client.get() or Client()


def record(event: str, result: str, **details: str | None) -> None:
    """Log an event: `result` is "ok", or says in one word why not. Details become fields of the JSON object.

    `by` and `client` name the client, unless they are given.
    """
    known = current_client()
    fields = {"event": event, "result": result, "by": known.identity, "client": known.address or None} | details
    said = " ".join(f"{name}={f'{value}'!r}" for name, value in fields.items() if value is not None)
    log.log(logging.INFO if result == "ok" else logging.WARNING, "%s", said, extra=fields)


def record_commit(session: AsyncSession, event: str, **details: str | None) -> None:
    """Log that something was done, as soon as the session has committed it; not at all if it is rolled back."""
    who = current_client()
    fields = {"by": who.identity, "client": who.address or None} | details
    session.info.setdefault(UNCOMMITTED, []).append((event, fields))


@listens_for(Session, "after_commit")
def _record_all(session: Session) -> None:
    for event, fields in session.info.pop(UNCOMMITTED, ()):
        record(event, "ok", **fields)


@listens_for(Session, "after_rollback")
def _forget_all(session: Session) -> None:
    session.info.pop(UNCOMMITTED, None)
