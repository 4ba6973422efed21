"""What may be wrong with lines that a rule refuses: the column, its value, and a guess that a producer can act on.

So for values that are passed over.
"""

import re
from collections.abc import Mapping

from microrec.core import messages
from microrec.events.parse import FLAGS

COLUMNS = {
    "missing_user": ("user_id",),
    "missing_video": ("video_id",),
    "bad_timestamp": ("started_at", "requested_at"),
    "bad_watch": ("watch_ms",),
    "missing_watch": ("watch_ms",),
    "negative_watch": ("watch_ms",),
    "absurd_watch": ("watch_ms",),
    "bad_duration": ("duration_ms",),
    "no_duration": ("duration_ms",),
    "bad_flag": FLAGS,
    "bad_session": ("session_id",),
    "bad_surface": ("surface",),
    "bad_event_id": ("event_id",),
    "bad_author": ("author_id",),
    "future_event": ("started_at",),
    "too_late": ("started_at",),
    "unknown_video": ("video_id",),
    "event_id_conflict": ("event_id",),
    "bad_published_at": ("published_at",),
    "bad_eligible": ("eligible",),
    "bad_modality": ("modality",),
    "missing_encoder": ("encoder_version",),
    "bad_clip": ("clip_no", "start_ms", "end_ms"),
    "unknown_kind": ("kind",),
}
"""Columns that a rule looks at."""

NEVER_SHOWN = ("user_id", "session_id", "event_id", "author_id")
"""Columns whose values lead to a person: a message names the column alone."""
INSTANTS = ("started_at", "requested_at", "published_at")
READABLE_FLAG = r"(?i)\s*(0|1|true|false|0\.0|1\.0)?\s*"

_OF_INSTANT = (
    (r"\d{9,10}(\.\d+)?", "epoch seconds? deliver milliseconds or ISO-8601"),
    (r"\d{15,16}", "epoch microseconds? deliver milliseconds or ISO-8601"),
    (r"\d{18,19}", "epoch nanoseconds? deliver milliseconds or ISO-8601"),
    (r"\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}.*", "a date in local order? deliver ISO-8601, 2026-01-31T18:30:00Z"),
    (r"\d{4}/\d{1,2}/\d{1,2}.*", "a date with slashes? deliver ISO-8601, 2026-01-31T18:30:00Z"),
    (r"\d{4}-\d{2}-\d{2}", "a date without a time of day: when did the viewing begin?"),
    (r"\d+(\.\d+)?[eE]\+?\d+", "a number as a spreadsheet shows it? deliver all digits, or ISO-8601"),
)  # fmt: skip
_OF_NUMBER = (
    (r"[+-]?\d+[.,]?\d*\s*[A-Za-z]+", "a unit in the value? deliver the number of milliseconds alone"),
    (r"\d+:\d{2}(:\d{2})?(\.\d+)?", "hours, minutes and seconds? deliver milliseconds"),
    (r"[+-]?\d*\.\d+", "seconds with a fraction? deliver whole milliseconds"),
    (r"[+-]?\d+,\d+", "a decimal comma, or thousands? deliver whole milliseconds"),
    (r"-\d+.*", "a length below 0"),
    (r"\d{10,}", "beyond any length: microseconds or nanoseconds? deliver milliseconds"),
)  # fmt: skip
_NO_ID = "an id that is no exact whole number, has control characters or more than 512 characters"
_OF_RULE = {
    "malformed_line": "not a record of the file's columns",
    "line_too_long": "longer than any record: is the file of another format, or without line ends?",
    "long_value": "an id of more than 512 characters",
    "missing_user": "the column is empty or absent: does it have another name?",
    "missing_video": "the column is empty or absent: does it have another name?",
    "missing_watch": "no watch time: map it to watch_ms, or accept viewings without one ([events] unmeasured)",
    "no_duration": "neither the line nor raw_videos has a length: deliver duration_ms in one of them, or accept"
    " viewings without one ([events] unmeasured)",
    "absurd_watch": "longer than [events] max_watch_ms: microseconds? deliver milliseconds",
    "future_event": "after the day whose folder holds the line: a wrong zone, or the wrong folder?",
    "too_late": "days before the day whose folder holds the line: deliver each day's lines in its own folder, or raise"
    " [night] lateness_days",
    "event_id_conflict": "an event_id names one viewing: here it names several",
    "duplicate": "was a file of an earlier day delivered again?",
    "missing_vector": "no vector",
    "not_finite": "a vector with a null, NaN or infinite component",
    "wrong_length": "vectors of this modality have another length",
    "other_encoder": "vectors of two encoder versions are never compared: deliver all videos with one",
    "missing_encoder": "vectors of unknown encoders cannot be compared: name the version",
    "bad_session": _NO_ID,
    "bad_surface": "a text of more than 512 characters",
    "bad_event_id": _NO_ID,
    "bad_author": _NO_ID,
    "bad_tags": "tags are an array of texts: in CSV its JSON text",
    "inexact_id": "an id that is no text and no exact whole number: deliver ids as text",
    "unreadable_id": "an id with control characters, or with characters that were lost on the way",
    "array_line": "one object a line is asked, not an array",
    "not_a_number": "NaN and Infinity are no JSON: deliver null, or leave the key out",
    "duplicate_key": "a JSON object that names a key twice",
    "bad_modality": "a plain lower-case word, such as visual, is asked",
    "unknown_kind": "opt_out, opt_in or erase is asked",
}


def described(
    rule: str, values: Mapping[str, str | None], *, known_videos: tuple[str, ...] = ()
) -> str:
    """Return the value that a rule refused, and what may be wrong with it.

    Args:
        rule: that refused the line.
        values: text of the line's columns.
        known_videos: some ids of the catalogue, to compare an unknown one with.

    Returns:
        `started_at '1650844800': epoch seconds? ...`; the guess alone where the rule is about no column.
    """
    column = _column(rule, values)
    if column is None:
        return _OF_RULE.get(rule, "")
    value = values[column]
    guess = _guess(rule, column, value, known_videos)
    stated = f"{column} {messages.shown(value)}" if value is not None else f"{column} is absent"
    if value is not None and column in NEVER_SHOWN:
        stated = column
    return f"{stated}: {guess}" if guess else stated


def _column(rule: str, values: Mapping[str, str | None]) -> str | None:
    """The column of the rule; of the flags the first that cannot be read."""
    columns = [column for column in COLUMNS.get(rule, ()) if column in values]
    if rule == "bad_flag":
        columns = [name for name in columns if not re.fullmatch(READABLE_FLAG, values[name] or "")]
    return columns[0] if columns else None


def _guess(rule: str, column: str, value: str | None, known_videos: tuple[str, ...]) -> str:
    text = (value or "").strip()
    if rule == "unknown_video":
        return _of_unknown_video(text, known_videos)
    if rule in ("bad_flag", "bad_eligible"):
        return "deliver 1 or 0, or true or false" if text else "empty: deliver 1 or 0"
    if rule in ("bad_timestamp", "bad_published_at"):
        return _first(_OF_INSTANT, text) or "ISO-8601 or epoch milliseconds are read"
    if rule in ("bad_watch", "bad_duration", "negative_watch"):
        return _first(_OF_NUMBER, text) or ("" if text else "empty")
    return _OF_RULE.get(rule, "")


def _of_unknown_video(text: str, known_videos: tuple[str, ...]) -> str:
    known = f"raw_videos has {', '.join(map(messages.shown, known_videos))}" if known_videos else ""
    decimal = (
        "an id written as a decimal? deliver ids as text" if re.fullmatch(r"\d+\.0+", text) else ""
    )
    return "; ".join(filter(None, [decimal, known])) or "not in raw_videos by that day"


def _first(patterns: tuple[tuple[str, str], ...], text: str) -> str:
    return next((words for pattern, words in patterns if re.fullmatch(pattern, text)), "")
