"""How easy a new password is to guess: estimated with the lists of common and leaked passwords of zxcvbn."""

import re
import threading

from app.core.errors import InvalidInputError

EXAMINED = 20
"""How many characters at either end of a password its strength is judged by: the time grows with their square."""
GUESSABLE = 10**8
"""The number of guesses that a password has to resist: zxcvbn's score 3, "safely unguessable"."""

SHORTEST_NAME = 4
"""From how many characters on a username is taken out of a password, of which the rest has to be strong."""

_examining = threading.Lock()


def refuse_guessable(password: str, username: str) -> None:
    """Refuse a new password that is common, was leaked, or is made of the name. It takes long: run it in a thread.

    Raises:
        InvalidInputError: it can be guessed.
    """
    if is_guessable(password, username):
        raise InvalidInputError("The new password is too easy to guess: it is common, or much like the username.")


def is_guessable(password: str, username: str) -> bool:
    """Say whether a password is among the first GUESSABLE guesses, given the name and common passwords."""
    # Here, because its lists take 15 MB and 60 milliseconds, and few processes need them.
    from zxcvbn import zxcvbn  # pyrefly: ignore[untyped-import]

    words = re.split(r"[^a-z0-9]+", username.lower())
    names = [word for word in {username, *words, "".join(words)} if word]
    texts = {password}
    if len(username) >= SHORTEST_NAME:
        texts |= {re.sub(re.escape(name), "", password, flags=re.IGNORECASE) for name in (username, "".join(words))}
    with _examining:  # It keeps the names in a global variable.
        ends = [[text[:EXAMINED], text[-EXAMINED:]] for text in texts]
        return any(all(not end or zxcvbn(end, names)["guesses"] < GUESSABLE for end in both) for both in ends)
