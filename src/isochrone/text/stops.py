"""Stop strings found in a text as it streams, without ever showing part of one."""

from __future__ import annotations

from collections.abc import Sequence

from isochrone.errors import BadRequest


class StopStrings:
    """Text goes in piece by piece; what comes out can be shown.

    The stop string that is complete first ends the text; when several are complete at the same character, the longest.
    Nothing here depends on how the text was split. Each character is looked at once per stop string (Knuth, Morris
    and Pratt 1977).
    """

    __slots__ = ("_fallbacks", "_held", "_matched", "_stops", "hit")

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise BadRequest(
                "A stop string is empty, so the answer would end before it began.",
                fix="Leave the empty string out of `stop`.", param="stop",
            )  # fmt: skip
        self._stops = tuple(stops)
        self._fallbacks = tuple(_fallback(stop) for stop in self._stops)
        self._matched = [0] * len(self._stops)  # how much of each stop string the text ends with
        self._held = ""
        self.hit: str | None = None

    @property
    def num_held(self) -> int:
        """Characters that may yet be part of a stop string."""
        return len(self._held)

    def push(self, text: str) -> tuple[str, bool]:
        """(what can be shown now, whether a stop string was found). After a find, nothing more is shown."""
        if self.hit is not None:
            return "", True
        text = self._held + text
        for at in range(len(self._held), len(text)):
            found = self._advance(text[at])
            if found is not None:
                self.hit, self._held = found, ""
                return text[: at + 1 - len(found)], True
        shown = len(text) - max(self._matched, default=0)
        self._held = text[shown:]
        return text[:shown], False

    def finish(self) -> str:
        """What was held back, now that no more text comes and it is no stop string."""
        held, self._held = self._held, ""
        return held

    def _advance(self, letter: str) -> str | None:
        found: str | None = None
        for i, stop in enumerate(self._stops):
            matched = self._matched[i]
            while matched and stop[matched] != letter:
                matched = self._fallbacks[i][matched - 1]
            matched += stop[matched] == letter
            self._matched[i] = matched
            if matched == len(stop) and (found is None or len(stop) > len(found)):
                found = stop
        return found


def _fallback(stop: str) -> list[int]:
    """For each prefix, the length of the longest shorter prefix that it ends with."""
    lengths, length = [0], 0
    for letter in stop[1:]:
        while length and stop[length] != letter:
            length = lengths[length - 1]
        length += stop[length] == letter
        lengths.append(length)
    return lengths
