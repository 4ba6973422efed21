"""From text to types. What is there but cannot be read is never turned into a silent null.

Every reader takes a string column and gives null for null, for blank text and for text it cannot
read; `unreadable` tells the last apart, so that a rule can refuse the line.

Ids of every table go through `identifier`: blanks around them go, and nothing else is changed. `007` stays `007`, and
two ways to write one character in Unicode (composed, decomposed) are two ids, since producers' systems compare so too.
"""

import functools
from collections.abc import Iterable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from microrec.core.arguments import MAX_ID
from microrec.core.days import UTC

DISLIKE = "disliked"
FLAGS = ("liked", "shared", "followed", "commented", DISLIKE)

_OFFSET = r"[T ].*(Z|[+-]\d{2}:?\d{2})$"
_TIME = r"[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?"
# No year, with its offset, before 1 or after 9999: Spark can count those, Python and most other readers cannot.
_DATE = r"(?!0000|0001.*\+|9999-..-..[T ][^-]*-)\d{4}-\d{2}-\d{2}"


def text(raw: Column) -> Column:
    """Return the text as it is, one row per row; null where it is blank."""
    return F.when(F.trim(raw) != "", raw)


BLANKS = (
    " \t\n\v\f\r\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What goes at both ends of an id: Unicode's white space, and the byte order mark."""
NOT_A_NUMBER = r"[:\[,][ \t]*(NaN|-?Infinity)"
"""Where a value of JSON begins that JSON does not have, in a line without its texts."""
_UNPRINTED = "[\\x00-\\x1f\\x7f-\\x9f\\ufffd]"
"""Control characters, and what decoders put in place of what they could not read: many ids would become one."""


def identifier(raw: Column) -> Column:
    """Return an id without the blanks around it, one row per row; null where it is blank or cannot be an id."""
    trimmed = F.btrim(raw, F.lit(BLANKS))
    return F.when((trimmed != "") & ~trimmed.rlike(_UNPRINTED), trimmed)


def read_rules(*ids: str) -> list[tuple[str, Column]]:
    """Return the rules for what the readers of the landing zone could not read, in the order in which they are tried.

    Args:
        *ids: columns of the raw table that are ids no row can do without.

    Returns:
        Pairs of a rule and whether it refuses a row of a raw frame (`readers.read`): `line_too_long`; `array_line`;
        `not_a_number` (a JSON line with a bare NaN or Infinity); `duplicate_key` (a JSON object names a key twice);
        `malformed_line`; `inexact_id` (an id was delivered as a
        number that is no exact whole number, or as no text or number at all); `unreadable_id` (control characters, or
        what stands for characters that were lost).
    """
    is_json = F.col("malformed") & F.col("file").rlike(r"\.jsonl(\.gz)?$")
    keys = F.json_object_keys("line")
    inexact = F.arrays_overlap("unread", F.array(*map(F.lit, ids)))
    return [
        ("line_too_long", F.col("too_long")),
        ("array_line", is_json & F.startswith(F.ltrim("line"), F.lit("["))),
        ("not_a_number", is_json & _outside_of_texts("line").rlike(NOT_A_NUMBER)),
        ("duplicate_key", is_json & (F.size(F.array_distinct(keys)) < F.size(keys))),
        ("malformed_line", F.col("malformed")),
        ("inexact_id", inexact),
        ("unreadable_id", _any(_is_unprinted(F.col(name)) for name in ids)),
    ]


def _outside_of_texts(line: str) -> Column:
    """A line of JSON without its texts, quotes included."""
    unescaped = F.regexp_replace(line, r"(?s)\\.", "")
    return F.regexp_replace(unescaped, r'"[^"]*+"', "")


def first_rule(rules: Iterable[tuple[str, Column]]) -> Column:
    """Return the name of the first rule that refuses a row, one row per row; null where none does.

    Args:
        rules: pairs of a name and whether it refuses the row.
    """
    return F.coalesce(*[F.when(refuses, F.lit(name)) for name, refuses in rules])


def _is_unprinted(raw: Column) -> Column:
    return F.coalesce(F.btrim(raw, F.lit(BLANKS)).rlike(_UNPRINTED), F.lit(False))


def _any(conditions: Iterable[Column]) -> Column:
    return functools.reduce(lambda either, other: either | other, conditions)


def too_long(*names: str) -> Column:
    """Return, one row per row, whether one of the texts is longer than any id: each later table would carry it."""
    return F.greatest(F.lit(0), *[F.length(name) for name in names]) > MAX_ID


def lost(name: str, *, is_id: bool = True) -> Column:
    """Return, one row per row, whether there is a text that an optional column cannot hold: it becomes null.

    Args:
        name: column of a raw frame (`readers.read`).
        is_id: it is an id, which has no control characters and stands for no lost ones.
    """
    unprinted = _is_unprinted(F.col(name)) if is_id else F.lit(False)
    return F.array_contains("unread", name) | unprinted | too_long(name)


def nulled(*rules: tuple[str, Column]) -> Column:
    """Return the rules whose optional values were passed over, an array of text, one row per row.

    Args:
        *rules: pairs of a rule and whether a value of the row breaks it.
    """
    names = [F.when(breaks, F.lit(name)) for name, breaks in rules]
    return F.array_compact(F.array(F.lit(None).cast("string"), *names))


def withdrawn_in_doubt(name: str, is_certain: Column, doubtful: Iterable[str]) -> Column:
    """Return the ids that a refused row may have been about to withdraw, an array of text, one row per row.

    Of a line of JSON that is none (cut off, a key twice, two objects) the ids are looked for in its text: escaped
    quotes are no quotes, so that no other text passes for a key. The fields of a broken CSV record say nothing.

    Args:
        name: column of the id.
        is_certain: whether the text of such a line says that nothing is withdrawn; null is no.
        doubtful: rules that refuse a row which can be read, and whose id may have been withdrawn.
    """
    is_json = F.col("file").rlike(r"\.jsonl(\.gz)?$")
    texts = F.concat(
        F.regexp_extract_all("line", F.lit(rf'"{name}"\s*:\s*"([^"\\]{{1,{MAX_ID}}})"'), F.lit(1)),
        F.regexp_extract_all("line", F.lit(rf'"{name}"\s*:\s*([0-9]{{1,15}})\s*[,}}]'), F.lit(1)),
    )
    named = F.array_compact(F.transform(texts, identifier))
    salvaged = F.when(
        is_json & F.col("malformed") & ~F.coalesce(is_certain, F.lit(False)),
        F.array_distinct(named),
    )
    read = F.when(F.col("rule").isin(*doubtful), F.array(name))
    return F.coalesce(read, salvaged, F.array().cast("array<string>"))


def written(name: str) -> Column:
    """Return the texts of a key's values in a line of JSON that is none, lower case without quotes and blanks.

    Args:
        name: the key.

    Returns:
        An array of text, one row per row; null for a row that could be read, or where the key is not met.
    """
    texts = F.regexp_extract_all("line", F.lit(rf'"{name}"\s*:\s*("[^"]*"?|[^\s,}}"]*)'), F.lit(1))
    words = F.transform(texts, lambda text: F.lower(F.btrim(text, F.lit('" '))))
    return F.when(F.col("malformed") & (F.size(words) > 0), words)


def unreadable(raw: Column, value: Column) -> Column:
    """Return, one row per row, whether there is text that has no value.

    Args:
        raw: the text as delivered.
        value: what a reader of this module made of it.
    """
    return text(raw).isNotNull() & value.isNull()


def instant(raw: Column, timezone: str = UTC) -> Column:
    """Return the instant of ISO-8601 text with a time of day, or of epoch milliseconds.

    One row per row. A text without an offset is a local time; where clocks are put back, the earlier of the two
    instants, and where they skip an hour, the instant as many minutes after the skip. Epoch numbers have 12 or 13
    digits (1973 to 2286), so seconds are not taken for milliseconds.
    A time without a date is refused: Spark would complete it from the clock.

    Args:
        raw: the text as delivered.
        timezone: whose local time a text without an offset is.
    """
    trimmed = F.upper(F.trim(raw))
    # Spark wants seconds before an offset, and a colon in it.
    timed = F.regexp_replace(trimmed, r"([T ]\d{2}:\d{2})(Z|[+-]|$)", "$1:00$2")
    offset = F.regexp_replace(timed, r"([+-]\d{2})(\d{2})$", "$1:$2")
    local = _local(offset.try_cast("timestamp"), trimmed.rlike(_OFFSET), timezone)
    iso = F.when(trimmed.rlike(f"^{_DATE}{_TIME}$"), local)
    epoch = F.when(trimmed.rlike(r"^\d{12,13}$"), F.timestamp_millis(trimmed.try_cast("bigint")))
    return F.coalesce(iso, epoch)


def instant_or_date(raw: Column, timezone: str = UTC) -> Column:
    """Return `instant`, one row per row; a bare ISO date is its first instant.

    Args:
        raw: the text as delivered.
        timezone: whose local time a text without an offset is.
    """
    trimmed = F.trim(raw)
    first = _local(trimmed.try_cast("timestamp"), F.lit(False), timezone)
    date = F.when(trimmed.rlike(f"^{_DATE}$"), first)
    return F.coalesce(instant(raw, timezone), date)


def day_of(instant: Column, timezone: str = UTC) -> Column:
    """Return the local date of an instant, one row per row.

    Args:
        instant: a timestamp; the session's time zone is UTC.
        timezone: whose date it is.
    """
    return F.to_date(instant if timezone == UTC else F.from_utc_timestamp(instant, timezone))


def end_of(day: Column, timezone: str = UTC) -> Column:
    """Return the first instant after a day, one row per row.

    Args:
        day: a local date.
        timezone: whose date it is.
    """
    return _local(F.date_add(day, 1).cast("timestamp"), F.lit(False), timezone)


def _local(read_as_utc: Column, has_offset: Column, timezone: str) -> Column:
    """The instant of a local time that was read as if it was UTC."""
    if timezone == UTC:
        return read_as_utc
    shifted = F.to_utc_timestamp(read_as_utc, timezone)
    return F.when(has_offset, read_as_utc).otherwise(shifted)


def whole_number(raw: Column) -> Column:
    """Return a bigint of up to 15 digits, one row per row; `1200.0`, as pandas writes integers beside nulls, is 1200.

    JSON cannot carry more digits for sure, and sums of a few such numbers would overflow.
    """
    trimmed = F.trim(raw)
    digits = F.regexp_replace(trimmed, r"\.0+$", "")
    return F.when(trimmed.rlike(r"^[+-]?0*\d{1,15}(\.0+)?$"), digits.try_cast("bigint"))


def length_ms(raw: Column) -> Column:
    """Return a length in milliseconds, one row per row, 0 and negative ones too; null beyond 2^31, 24 days.

    So the number of a video's clips and any sum of lengths can be counted.
    """
    return whole_number(raw).try_cast("int").cast("bigint")


def flag(raw: Column) -> Column:
    """Return a boolean from 0, 1, true or false, in any case, one row per row; `1.0` is 1."""
    lowered = F.lower(F.trim(raw))
    true = F.when(lowered.isin("1", "true", "1.0"), F.lit(True))
    return F.coalesce(true, F.when(lowered.isin("0", "false", "0.0"), F.lit(False)))


def interactions(lines: DataFrame, timezone: str = UTC) -> DataFrame:
    """Type the lines of `raw_interactions`.

    Args:
        lines: `readers.read_days`, one row per delivered line.
        timezone: whose local time a time without an offset is.

    Returns:
        One row per delivered line. `unread_by` is the rule of `read_rules` that refuses it (null where none does),
        `event_day` the local date of `started_at`, `stated_ms` the duration the line gives (null where it gives none or
        0), `bad_watch` marks a watch time that is there and cannot be read, `nulled` the rules whose optional values
        were passed over (bad_duration, bad_flag, bad_session, bad_surface, bad_event_id), `content` is a digest of what
        was viewed, `event_id` the producers' or else that digest. A dislike that cannot be read counts as one.
    """
    started_at = instant(F.col("started_at"), timezone)
    stated = length_ms(F.col("duration_ms"))
    bad_flag = {name: unreadable(F.col(name), flag(F.col(name))) for name in FLAGS}
    typed = lines.select(
        F.col("day").alias("arrived_on"),
        "file",
        "line",
        first_rule(read_rules("user_id", "video_id")).alias("unread_by"),
        identifier(F.col("user_id")).alias("user_id"),
        identifier(F.col("video_id")).alias("video_id"),
        started_at.alias("started_at"),
        day_of(started_at, timezone).alias("event_day"),
        whole_number(F.col("watch_ms")).alias("watch_ms"),
        unreadable(F.col("watch_ms"), whole_number(F.col("watch_ms"))).alias("bad_watch"),
        F.when(stated > 0, stated).alias("stated_ms"),
        *[
            F.coalesce(flag(F.col(name)), bad_flag[name] & F.lit(name == DISLIKE)).alias(name)
            for name in FLAGS
        ],
        F.when(~lost("session_id"), identifier(F.col("session_id"))).alias("session_id"),
        F.when(~lost("surface", is_id=False), text(F.col("surface"))).alias("surface"),
        F.when(~lost("event_id"), identifier(F.col("event_id"))).alias("stated_id"),
        nulled(
            ("bad_duration", unreadable(F.col("duration_ms"), stated) | (stated < 0)),
            ("bad_flag", _any(bad_flag.values())),
            ("bad_session", lost("session_id")),
            ("bad_surface", lost("surface", is_id=False)),
            ("bad_event_id", lost("event_id")),
        ).alias("nulled"),
    )
    identified = typed.withColumn("content", _digest())
    return identified.withColumn("event_id", F.coalesce("stated_id", "content")).drop("stated_id")


def _digest() -> Column:
    viewed = ["user_id", "video_id", "watch_ms", *FLAGS, "session_id", "surface"]
    # As JSON, so that neighbouring values cannot run together; in microseconds, which JSON text of
    # an instant would cut to milliseconds.
    return F.sha2(F.to_json(F.struct(F.unix_micros("started_at").alias("at"), *viewed)), 256)
