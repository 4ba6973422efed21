"""Where a text quotes a person: as a whole value, or as a word of its own among others.

An id is any text, so nothing is cut at blanks or commas. A quoted id begins and ends where a word does: `u1` is in
`user u1: 3 rows` and not in `u12`. An id of digits is a word of many texts that speak of rows, days and versions; it
counts where it stands in quotes, or after the word for a person (`user 17`, `user_id=17`, `"author_id": 17`).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

GONE = "[erased]"
"""What stands in a text in place of an id that was taken out."""
LOG_PREFIX = 32
"""Characters of a text that older logs of Delta hold as a bound (`tables/layout.py`)."""

_WORDS = re.compile(r"\w+")
_PERSON = re.compile(r"(?:user|author|subject)(?:[_ ]?ids?|s)?\W{0,6}$", re.IGNORECASE)
_QUOTES = "\"'`"


class Ids:
    """Ids of people who are looked for together."""

    def __init__(self, ids: Iterable[str]) -> None:
        """Take the ids.

        Args:
            ids: as the producers deliver them; blanks around them are no part of them, as `core/rows` reads them.
        """
        self.ids = frozenset(each.strip() for each in ids) - {""}
        self.values = pa.array(sorted(self.ids), pa.string())

    def __bool__(self) -> bool:
        """Return whether anybody is looked for."""
        return bool(self.ids)

    def equal(self, column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
        """Return the mask of the values that are an id as a whole, [n_rows]; null is none."""
        return pc.is_in(column, value_set=self.values)

    def between(self, low: str, high: str) -> bool:
        """Return whether an id lies between two bounds, as Parquet orders texts: by their bytes.

        Args:
            low: a text that no value is less than.
            high: a text that no value is greater than.
        """
        bounds = (low.encode(), high.encode())
        return any(bounds[0] <= each <= bounds[1] for each in self._encoded)

    def quoted(self, column: pa.ChunkedArray | pa.Array, *, anywhere: bool = False) -> list[bool]:
        """Return for each text of a column whether it quotes somebody, [n_rows].

        Args:
            column: texts.
            anywhere: an id of digits counts wherever it is a word (raw lines, where the columns are not told apart).
        """
        flags = [False] * len(column)
        coarse = pc.fill_null(pc.match_substring_regex(column, self._pattern), False)
        for row in pc.indices_nonzero(coarse).to_pylist():
            flags[row] = any(self.spans(column[row].as_py(), anywhere=anywhere))
        return flags

    def spans(self, text: str, *, anywhere: bool = False) -> Iterator[tuple[int, int]]:
        """Yield where a text quotes somebody, by first character and the one after the last; spans may overlap.

        Args:
            text: to be searched.
            anywhere: as in `quoted`.
        """
        for word in _WORDS.finditer(text):
            for before, each in self._by_word.get(word[0], ()):
                start = word.start() - before
                end = start + len(each)
                stands = start >= 0 and text.startswith(each, start) and _apart(text, start, end)
                plain = anywhere or not each.isdecimal()
                if stands and (plain or _named(text, start, end)):
                    yield start, end
        for each in self._without_words:
            start = text.find(each)
            while start >= 0:
                yield start, start + len(each)
                start = text.find(each, start + 1)

    def taken_out(self, text: str) -> str:
        """Return a text with every id in it replaced."""
        kept, end = [], 0
        for start, stop in sorted(self.spans(text)):
            if start >= end:
                kept += [text[end:start], GONE]
                end = stop
        return "".join([*kept, text[end:]])

    def bounds_hold(self, value: str) -> bool:
        """Return whether a bound of a log is an id, or as much of one as a bound holds."""
        whole = value.removesuffix(chr(0x10FFFF))
        return whole in self.ids or (len(whole) == LOG_PREFIX and whole in self._cut)

    @cached_property
    def _encoded(self) -> list[bytes]:
        return [each.encode() for each in self.ids]

    @cached_property
    def _cut(self) -> frozenset[str]:
        return frozenset(each[:LOG_PREFIX] for each in self.ids if len(each) > LOG_PREFIX)

    @cached_property
    def _pattern(self) -> str:
        """RE2 reads one expression of thousands of words in one pass."""
        return "|".join(sorted(map(re.escape, self.ids))).replace("\\ ", " ")

    @cached_property
    def _by_word(self) -> dict[str, list[tuple[int, str]]]:
        """By the first word of an id, the characters of the id before it, and the id."""
        by_word = defaultdict(list)
        for each in self.ids:
            if word := _WORDS.search(each):
                by_word[word[0]].append((word.start(), each))
        return by_word

    @cached_property
    def _without_words(self) -> list[str]:
        return [each for each in self.ids if not _WORDS.search(each)]


def _apart(text: str, start: int, end: int) -> bool:
    """Whether what stands there is no part of a longer word, nor digits of a longer number."""
    before, after = text[start - 1 : start], text[end : end + 1]
    apart = not (_is_word(before) and _is_word(text[start])) and not (
        _is_word(after) and _is_word(text[end - 1])
    )
    if apart and text[start:end].isdecimal():
        apart = not (before in "-+.:/" and _is_word(text[start - 2 : start - 1])) or not before
        apart &= not (after in "-+.:/" and _is_word(text[end + 1 : end + 2])) or not after
    return apart


def _is_word(character: str) -> bool:
    return bool(character) and bool(_WORDS.match(character))


def _named(text: str, start: int, end: int) -> bool:
    """Whether digits stand in quotes, or after the word for a person."""
    before, after = text[start - 1 : start], text[end : end + 1]
    in_quotes = bool(before) and before in _QUOTES and before == after
    return in_quotes or bool(_PERSON.search(text[max(0, start - 24) : start]))
