"""Exceptions of the harness: each has a one-sentence message and an exit code."""

from __future__ import annotations


class HarnessError(Exception):
    """Something failed; the message says what happened and what to do (exit code 1)."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        # Messages quote file names and user input, which may contain terminal control codes.
        super().__init__(printable(message))


def printable(text: str, keep: str = "") -> str:
    r"""Escape characters that cannot be printed, such as ``\x1b``, so a terminal ignores them.

    Args:
        text: text from a file, a plug-in or a user.
        keep: white space to leave as it is; all other white space becomes a space.
    """
    if text.isprintable():
        return text
    return "".join(char if char in keep else _printable(char) for char in text)


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()


class UsageError(HarnessError):
    """The request itself is wrong: an unknown name, an option that does not fit (exit code 2)."""

    exit_code = 2


class MismatchError(HarnessError):
    """A number or a checksum differs from the expected one (exit code 3)."""

    exit_code = 3


def own_error(error: BaseException, title: str) -> HarnessError:
    """Convert any exception to a `HarnessError` that names what failed."""
    if isinstance(error, HarnessError):
        return error
    return HarnessError(f"{title} failed ({type(error).__name__}: {error}).")


def sentence(error: BaseException) -> str:
    """The message of an error, with the exception's type if it is not a `HarnessError`."""
    return str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
