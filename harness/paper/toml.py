"""Reads TOML into types; mistakes are sentences for the person who wrote it."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeVar

from msgspec import Struct, ValidationError, convert
from msgspec.structs import fields

S = TypeVar("S", bound=Struct)

Parts = Mapping[str, type[Struct]]
"""The types of the tables of a file, by their names, such as ``claim`` or ``ambiguity.taken``."""


def parse(text: str) -> dict[str, Any]:
    """Parse TOML; a `ValueError` names a key that stands twice and its table."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        twice = re.match(r"Cannot overwrite a value \(at line (\d+)", str(error))
        if not twice:
            raise
        *above, line = text.splitlines()[: int(twice[1])]
        part = next((one.strip() for one in reversed(above) if one.startswith("[")), "the file")
        key = line.partition("=")[0].strip()
        raise ValueError(f"{key} stands twice in {part}, line {twice[1]}") from error


_TYPES = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a table",
    "str": "text in quotation marks",
}
"""The types of TOML, in words."""

_WORDS = {"about": "a number such as 5.2M", "plugin": "of the form module:function"}
"""What a text must be, by its key; other texts with a pattern are words."""


def converted(data: Mapping[str, Any], kind: type[S], parts: Parts = MappingProxyType({})) -> S:
    """Convert a table of the TOML; a `ValueError` names the place, and the near name of a word.

    Args:
        data: the table.
        kind: its type.
        parts: the types of its tables, if it is a whole file.
    """
    try:
        return convert(data, kind)
    except ValidationError as error:
        # Such as: Expected `str`, got `int` - at `$.table[0].title`
        text, *rest = str(error).rsplit(" - at ", 1)
        at = "".join(rest)
        path = at.removeprefix("`key` in ").strip("`").removeprefix("$").removeprefix(".")
        first, *keys = path.replace("[...]", "").split(".")
        one = "each key of " * at.startswith("`key`") or "each value of " * path.endswith("[...]")
        if keys:
            keys[-1] = one + keys[-1]
        place = ".".join([first, *keys])
        part, _, index = first.rstrip("]").partition("[")
        nested = f"{part}.{keys[0].partition('[')[0]}" if keys else ""
        of_part = parts.get(nested) or parts.get(part, kind)
        if index.isdigit() and isinstance(table := data[part][int(index)], dict):
            name = next((table[key] for key in ("id", "key", "cell") if key in table), index)
            place = ": ".join([f"[[{part}]] {name}", *keys])
        elif parts:
            place = ": ".join([f"[{first}]", *keys]) if first in parts else one + place
        with at_place(place):
            if word := re.match("Object contains unknown field `([^`]*)", text):
                require("key", [word[1]], of_part.__struct_encode_fields__)
            if word := re.match("Invalid enum value '(.*)'", text):
                types = {one.encode_name: str(one.type) for one in fields(of_part)}
                require("value", [word[1]], re.findall("'(.*?)'", types[place.split()[-1]]))
        sections = kind.__struct_encode_fields__ if parts else ()
        raise ValueError(_in_words(text, place, sections)) from error


def _in_words(text: str, place: str, sections: Collection[str]) -> str:
    """Write an error of msgspec for people who write TOML."""
    if word := re.match("Object missing required field `([^`]*)", text):
        name = f"{place}: {word[1]}" if place else word[1]
        return f"{f'[{name}]' if name in sections else name} is missing"
    if text == "Expected `array`, got `object`" and place.startswith("["):
        return f"write [{place}] in place of {place}"
    if "matching regex" in text:
        form = _WORDS.get(place.split(": ")[-1], "a word of letters, digits, _ and -")
        return f"{place} must be {form}"
    if word := re.match(r"Expected `([\w |]+)`((?: of length)?(?: [<>=]* ?[\d.e+]+)?)", text):
        example = ', such as ["one", "two"]' * (text == "Expected `array`, got `str`")
        types = " or ".join(_TYPES[one] for one in word[1].split(" | ") if one in _TYPES)
        return f"{place} must be {types}{word[2]}{example}"
    return f"{place}: {text}" if place else text


def require(kind: str, words: Iterable[str], known: Iterable[str]) -> None:
    """Refuse words that are not known, and say which is near or what there is."""
    names = list(dict.fromkeys(known))
    for word in words:
        if word not in names:
            lowered = {name.lower(): name for name in names}
            near = difflib.get_close_matches(word.lower(), lowered, n=1)
            hint = (
                f"did you mean {lowered[near[0]]}?"
                if near
                else f"there are {', '.join(names) or 'none'}"
            )
            raise ValueError(f"no {kind} is called {word!r}: {hint}")


@contextmanager
def at_place(place: str) -> Iterator[None]:
    """Put the place in the file before the message of an error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}" if place else str(error)) from error
