"""The n-grams of a caption and its tags: what a vector of words is made of.

Text is normalised (NFKC, case folded), URLs and mentions (`@name`: they name people) are left out. What is left is cut
by its script:

- scripts that separate words: the word itself, and, of words of four letters or more, its character trigrams, by which
  inflected and misspelt forms of a word meet;
- scripts that do not (Han, kana, Thai, Lao, Khmer, Burmese): single characters and pairs of neighbours;
- emoji: the sign itself, whatever its skin tone or variant.

A tag is one n-gram as a whole besides its words. Numbers say nothing about a video and are left out. A language has no
table of stop words: words of most videos weigh little by their inverse document frequency.
"""

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator

N_BUCKETS = 1 << 20
"""N-grams are numbered by their digest: of 100,000 different ones 5 % share a number with another."""
MOST_CHARACTERS = 4_000
"""Of a caption; what follows is not read."""
MOST_TAGS = 100

_LEFT_OUT = re.compile(r"(?:https?://|www\.)\S+|(?<!\w)@[\w.]+")
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_EMOJI = (
    "\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030\u303d\u3297\u3299"
    "\U0001f000-\U0001faff"
)
_RUNS = re.compile(
    rf"(?P<unspaced>[{_UNSPACED}]+)|(?P<emoji>[{_EMOJI}])|(?P<word>(?:(?![{_UNSPACED}{_EMOJI}_])[\w'\u2019])+)"
)
_VARIANTS = re.compile("[\u200d\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]")
_MARKS = "'\u2019"
_SHORTEST_CUT = 4
_GRAM = 3


def buckets(caption: str | None, tags: Iterable[str] | None) -> Counter[int]:
    """Return how often each n-gram of a video's words occurs, by the number of its bucket.

    Args:
        caption: as delivered.
        tags: as delivered.

    Returns:
        Counts by number, in 0 .. N_BUCKETS - 1; empty where there are no words.
    """
    return Counter(
        zlib.crc32(gram.encode("utf-8", "replace")) % N_BUCKETS for gram in grams(caption, tags)
    )


def grams(caption: str | None, tags: Iterable[str] | None) -> Iterator[str]:
    """Yield the n-grams of a video's words, each as often as it occurs.

    Args:
        caption: as delivered.
        tags: as delivered.
    """
    if caption:
        yield from _of_text(_normalised(caption[:MOST_CHARACTERS]))
    for tag in list(tags or ())[:MOST_TAGS]:
        text = _normalised(tag[:MOST_CHARACTERS]).strip(" #")
        if text:
            yield f"tag {text}"
            yield from _of_text(text)


def _normalised(text: str) -> str:
    whole = unicodedata.normalize("NFKC", text).casefold()
    return _VARIANTS.sub("", _LEFT_OUT.sub(" ", whole))


def _of_text(text: str) -> Iterator[str]:
    for run in _RUNS.finditer(text):
        if run.lastgroup == "word":
            yield from _of_word(run[0].strip(_MARKS))
        elif run.lastgroup == "emoji":
            yield run[0]
        else:
            yield from run[0]
            yield from map("".join, zip(run[0], run[0][1:], strict=False))


def _of_word(word: str) -> Iterator[str]:
    """The word, and its trigrams with its bounds marked; none of a number."""
    if not word or word.isnumeric():
        return
    yield f"word {word}"
    if len(word) >= _SHORTEST_CUT:
        bounded = f"<{word}>"
        yield from (bounded[at : at + _GRAM] for at in range(len(bounded) - _GRAM + 1))
