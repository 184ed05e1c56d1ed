import pickle

from harness.errors import HarnessError, MismatchError


def test_a_message_is_one_line_that_a_terminal_cannot_obey() -> None:
    error = MismatchError("The file \x1b[2J\udcff.png\nis\tbroken, münchen is not: replace it.")
    assert str(error) == r"The file \x1b[2J\udcff.png is broken, münchen is not: replace it."
    assert str(HarnessError(str(error))) == str(error)


def test_an_error_keeps_its_message_and_exit_code_between_processes() -> None:
    sent = pickle.loads(pickle.dumps(MismatchError("a\nb")))
    assert (type(sent), str(sent), sent.exit_code) == (MismatchError, "a b", 3)
