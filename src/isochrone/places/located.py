"""TOML whose mistakes are told with file and line: a table that remembers where each of its keys was written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

from isochrone.errors import BadConfig
from isochrone.units import parse_duration

Key: TypeAlias = "str | int"
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_PAIR = re.compile(r"\s*([A-Za-z0-9_.\"' -]+?)\s*=")
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")


class Located:
    """One table of a TOML file.

    path  keys that lead to it from the top
    Every `take_…` removes the key it names, so that `expect_empty` finds what nobody asked for.
    """

    def __init__(
        self, table: Mapping[str, Any], file: str, lines: Mapping[tuple[Key, ...], int], path: tuple[Key, ...] = ()
    ) -> None:
        self._left, self._known = dict(table), list[str]()
        self._file, self._lines, self._path = file, lines, path

    @property
    def line(self) -> int:
        """Where it begins; 1 for the file itself."""
        return self._line_of(self._path)

    def wrong(self, sentence: str, *, fix: str, key: str = "") -> BadConfig:
        """The error to raise for this table, or for one of its keys."""
        line = self._line_of((*self._path, key) if key else self._path)
        return BadConfig(f"{self._file}, line {line}: {sentence}", fix=fix)

    def take(self, key: str) -> Any:
        """Its value as TOML has it; None when it is absent."""
        self._known.append(key)
        return self._left.pop(key, None)

    def take_text(self, key: str, default: str = "") -> str:
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, str) or not value:
            raise self.wrong(f"{key} is no text.", fix=f'Write it in quotes: {key} = "…".', key=key)
        return value

    def need_text(self, key: str, example: str) -> str:
        value = self.take_text(key)
        if not value:
            raise self.wrong(f"{key} is missing.", fix=f'Add a line such as: {key} = "{example}".')
        return value

    def take_texts(self, key: str) -> tuple[str, ...]:
        value = self.take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.wrong(f"{key} is no list of texts.", fix=f'Write it so: {key} = ["…", "…"].', key=key)
        return tuple(value)

    def take_number(self, key: str, low: float, high: float) -> float | None:
        """None when it is absent."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.wrong(
                f"{key} is {str(value)[:40]}, which is no number from {low:g} to {high:g}.",
                fix=f"Write {key} as a number from {low:g} to {high:g}, without quotes.", key=key,
            )  # fmt: skip
        return float(value)

    def need_number(self, key: str, low: float, high: float) -> float:
        value = self.take_number(key, low, high)
        if value is None:
            raise self.wrong(f"{key} is missing.", fix=f"Add {key} = a number from {low:g} to {high:g}.")
        return value

    def take_whole(self, key: str, low: int, high: int) -> int | None:
        value = self.take_number(key, low, high)
        if value is not None and value != int(value):
            raise self.wrong(f"{key} is {value:g}, which is no whole number.", fix=f"Write {int(value)}.", key=key)
        return None if value is None else int(value)

    def take_duration(self, key: str) -> float | None:
        """Seconds of a text such as `300ms`."""
        text = self.take_text(key)
        if not text:
            return None
        try:
            return parse_duration(text)
        except BadConfig as error:
            raise self.wrong(f"{key}: {error.message}", fix=error.fix, key=key) from None

    def take_switch(self, key: str) -> bool:
        value = self.take(key)
        if value not in (None, True, False):
            raise self.wrong(f"{key} is neither true nor false.", fix=f"Write {key} = true, without quotes.", key=key)
        return bool(value)

    def take_table(self, key: str) -> Located | None:
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(f"{key} is no table.", fix=f"Write it so: [{key}] or {key} = {{ … }}.", key=key)
        return Located(value, self._file, self._lines, (*self._path, key))

    def take_tables(self, key: str) -> Iterator[Located]:
        """Of an array of tables (`[[key]]`)."""
        value = self.take(key)
        if value is None:
            return
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(f"{key} is no array of tables.", fix=f"Begin each with a line [[{key}]].", key=key)
        for index, item in enumerate(value):
            yield Located(item, self._file, self._lines, (*self._path, key, index))

    def take_named(self, key: str) -> Iterator[tuple[str, Located]]:
        """Tables within the table `key`, by name."""
        table = self.take_table(key)
        if table is None:
            return
        for name in list(table._left):
            inner = table.take_table(name)
            assert inner is not None  # it is one of its own keys
            yield name, inner

    def rest(self) -> dict[str, Any]:
        """All that nobody has asked for, taken as it is."""
        left, self._left = self._left, {}
        return left

    def expect_empty(self) -> None:
        """Raises BadConfig for a key that nobody asked for, naming the nearest."""
        for key in self._left:
            near = get_close_matches(key, self._known, n=1, cutoff=0.0)
            raise self.wrong(f"{key} is not known here.", fix=f"Did you mean {near[0]}? Otherwise remove it.", key=key)

    def _line_of(self, path: tuple[Key, ...]) -> int:
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def read(file: Path) -> Located:
    """A file's table.  Raises BadConfig when it cannot be read or is no TOML."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise BadConfig(f"{file} cannot be read: {why}.", fix="Name a file that is there and yours to read.") from error
    return parse(text, str(file))


def parse(text: str, name: str) -> Located:
    """The table of a text.  name  of the file, for messages"""
    import tomllib  # most processes read none

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{name} is no TOML: {error}.", fix="Correct that line.") from error
    return Located(table, name, _lines_of(text.splitlines()))


def _lines_of(lines: Iterable[str]) -> dict[tuple[Key, ...], int]:
    """Line of each table and of each key that stands at the beginning of one, as far as a scan can tell.

    Texts over several lines are skipped; what is missed is told with the line of the table around it.
    """
    found: dict[tuple[Key, ...], int] = {}
    counts: dict[tuple[Key, ...], int] = {}
    table: tuple[Key, ...] = ()
    is_text = False
    for number, line in enumerate(lines, 1):
        quotes = line.count('"""') + line.count("'''")
        if not is_text:
            if header := _HEADER.match(line):
                table = _resolved(_parts(header[2]), counts, is_new=header[1] == "[[")
                found.setdefault(table, number)
            elif pair := _PAIR.match(line):
                found.setdefault((*table, *_parts(pair[1])), number)
        is_text ^= quotes % 2 == 1
    return found


def _resolved(names: tuple[str, ...], counts: dict[tuple[Key, ...], int], *, is_new: bool) -> tuple[Key, ...]:
    """The path of a header: where a name stands for an array of tables, its last one is meant."""
    path: tuple[Key, ...] = ()
    for at, name in enumerate(names):
        path = (*path, name)
        if is_new and at == len(names) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(m[1] or m[2] or m[3] or "" for m in _PART.finditer(dotted))
