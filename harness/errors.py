"""What goes wrong, said in one sentence with the exit code it deserves."""

from __future__ import annotations


class HarnessError(Exception):
    """Something failed; the message says what happened and what to do (exit code 1)."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        # Messages quote files and words, which may hold what a terminal would obey.
        super().__init__(printable(message))


def printable(text: str, keep: str = "") -> str:
    r"""Text that a terminal shows and does not obey: ``\x1b`` stands for what cannot be printed.

    Args:
        text: what a file, a plug-in or a user says.
        keep: the white space that stays as it is; any other becomes a space.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter in keep else _printable(letter) for letter in text)


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()


class UsageError(HarnessError):
    """The request itself is wrong: an unknown name, an option that does not fit (exit code 2)."""

    exit_code = 2


class MismatchError(HarnessError):
    """A number or a checksum is not what it must be (exit code 3)."""

    exit_code = 3


def own_error(error: BaseException, title: str) -> HarnessError:
    """An error of any kind as one of the harness's, which says what it befell."""
    if isinstance(error, HarnessError):
        return error
    return HarnessError(f"{title} failed ({type(error).__name__}: {error}).")


def sentence(error: BaseException) -> str:
    """What an error says; of a plug-in's, which may be anything, its kind too."""
    return str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
