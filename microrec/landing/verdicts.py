"""The rules of the events stage as SQL of DuckDB, for an inspection that needs no Spark.

`microrec.events` is what a night goes by. Here are the same rules in another dialect, in the same order; a test runs
both over one table of examples (`tests/landing/test_verdicts.py`), and whole days through both.

A table of lines has a column of text for each column of the contract (lists are lists), and `day`, `file`, `number` (of
the line, from 1), `line`, `unread` (the rule by which the record cannot be read, else null), `lost` (names of columns,
null here, whose value is there and is not what the column holds). A judged table has `rule`, and `nulled`: the rules
whose optional values were passed over.
"""

import datetime as dt
from dataclasses import dataclass

from microrec.core.days import UTC
from microrec.core.request_kinds import BLOCKS, PREFERENCES, SEPARATORS, SPELLINGS, UNBLOCK

DISLIKE = "disliked"
FLAGS = ("liked", "shared", "followed", "commented", DISLIKE)
MAX_ID = 512
BLANKS = (
    " \t\n\v\f\r\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f"
    "\u205f\u3000\ufeff"
)
UNPRINTED = r"[\x00-\x1f\x7f-\x{9f}\x{fffd}]"
_DATE = r"\d{4}-\d{2}-\d{2}"
_CLOCK = r"[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?"
_OFFSET = r"(Z|[+-](0\d|1[0-7]):?[0-5]\d|[+-]18:?00)?"
SUPERSEDED = "superseded"
TIMES = {
    "raw_interactions": "started_at",
    "raw_videos": "published_at",
    "raw_privacy_requests": "requested_at",
}
"""The column of times of a raw table."""


@dataclass(frozen=True)
class Thresholds:
    """What the recipe says about rules and labels, see `microrec.events.config.Config`."""

    lateness_days: int
    max_watch_ms: int
    unmeasured: str
    completed_ratio: float
    long_watch_ms: int
    skip_ms: int
    timezone: str = UTC


def macros(timezone: str) -> str:
    """Return the statements that define the readers of `microrec.events.parse`.

    Args:
        timezone: of the recipe. In an hour that comes twice, DuckDB may choose the other instant than Spark.
    """
    is_utc = timezone == UTC
    local = "x" if is_utc else f"timezone('UTC', timezone('{timezone}', x))"
    there = "x" if is_utc else f"timezone('{timezone}', timezone('UTC', x))"
    return f"""
CREATE OR REPLACE TEMP MACRO filled(x) AS CASE WHEN trim(x, ' ') <> '' THEN x END;
CREATE OR REPLACE TEMP MACRO trimmed_id(x) AS trim(x, '{BLANKS}');
CREATE OR REPLACE TEMP MACRO unprinted(x) AS coalesce(regexp_matches(trimmed_id(x), '{UNPRINTED}'), false);
CREATE OR REPLACE TEMP MACRO identifier(x) AS
  CASE WHEN trimmed_id(x) <> '' AND NOT unprinted(x) THEN trimmed_id(x) END;
CREATE OR REPLACE TEMP MACRO timed(x) AS regexp_full_match(upper(trim(x, ' ')), '{_DATE}{_CLOCK}{_OFFSET}')
  AND NOT regexp_matches(trim(x, ' '), '^(0000|0001.*\\+|9999-..-..[tT ][^-]*-)');
CREATE OR REPLACE TEMP MACRO of_zone(x) AS {local};
CREATE OR REPLACE TEMP MACRO event_day(x) AS CAST({there} AS DATE);
CREATE OR REPLACE TEMP MACRO instant(x) AS CASE
  WHEN timed(x) AND regexp_matches(upper(trim(x, ' ')), '(Z|[+-]\\d\\d:?\\d\\d)$')
    THEN timezone('UTC', TRY_CAST(upper(trim(x, ' ')) AS TIMESTAMPTZ))
  WHEN timed(x) THEN of_zone(TRY_CAST(upper(trim(x, ' ')) AS TIMESTAMP))
  WHEN regexp_full_match(trim(x, ' '), '\\d{{12,13}}') THEN make_timestamp(TRY_CAST(trim(x, ' ') AS BIGINT) * 1000) END;
CREATE OR REPLACE TEMP MACRO instant_or_date(x) AS coalesce(instant(x), CASE
  WHEN regexp_full_match(trim(x, ' '), '{_DATE}') AND NOT starts_with(trim(x, ' '), '0000')
    THEN of_zone(TRY_CAST(trim(x, ' ') AS TIMESTAMP)) END);
CREATE OR REPLACE TEMP MACRO whole_number(x) AS CASE WHEN regexp_full_match(trim(x, ' '), '[+-]?0*\\d{{1,15}}(\\.0+)?')
  THEN TRY_CAST(regexp_replace(trim(x, ' '), '\\.0+$', '') AS BIGINT) END;
CREATE OR REPLACE TEMP MACRO length_ms(x) AS
  CASE WHEN whole_number(x) BETWEEN -2147483648 AND 2147483647 THEN whole_number(x) END;
CREATE OR REPLACE TEMP MACRO flag(x) AS CASE WHEN lower(trim(x, ' ')) IN ('1', 'true', '1.0') THEN true
  WHEN lower(trim(x, ' ')) IN ('0', 'false', '0.0') THEN false END;
CREATE OR REPLACE TEMP MACRO unreadable(x, y) AS filled(x) IS NOT NULL AND y IS NULL;
"""


def _first(rules: list[tuple[str, str]]) -> str:
    cases = " ".join(f"WHEN {condition} THEN '{rule}'" for rule, condition in rules)
    return f"CASE WHEN unread IS NOT NULL THEN unread {cases} END"


def _too_long(*names: str) -> str:
    return " OR ".join(f"coalesce(length({name}), 0) > {MAX_ID}" for name in names)


def _lost(name: str, *, is_id: bool = True) -> str:
    """Whether a text is there that the optional column cannot hold."""
    unprinted = f"unprinted({name}) OR " if is_id else ""
    return f"({unprinted}list_contains(lost, '{name}') OR {_too_long(name)})"


def _nulled(*rules: tuple[str, str]) -> str:
    cases = ", ".join(f"CASE WHEN {breaks} THEN '{rule}' END" for rule, breaks in rules)
    return f"list_filter([{cases}], lambda rule: rule IS NOT NULL)"


def _withdrawn(name: str, key: str, certain: str, doubtful: str) -> str:
    """The ids of a refused row that may have been withdrawn, see `events.parse.withdrawn_in_doubt`."""
    texts = f"""regexp_extract_all(line, '"{name}"\\s*:\\s*"([^"\\\\]{{1,{MAX_ID}}})"', 1)"""
    numbers = f"""regexp_extract_all(line, '"{name}"\\s*:\\s*([0-9]{{1,15}})\\s*[,}}]', 1)"""
    words = f"""regexp_extract_all(line, '"{key}"\\s*:\\s*("[^"]*"?|[^\\s,}}"]*)', 1)"""
    named = f"list_transform(list_concat({texts}, {numbers}), lambda id: identifier(id))"
    ids = f"list_filter({named}, lambda id: id IS NOT NULL)"
    is_certain = (
        f"""len({words}) > 0 AND len(list_filter({words}, lambda word: NOT {certain})) = 0"""
    )
    return (
        f"CASE WHEN own = '{doubtful}' THEN [{name}]"
        f" WHEN unread IN ('line_too_long', 'array_line', 'not_a_number', 'duplicate_key', 'malformed_line')"
        f" AND regexp_matches(file, '\\.jsonl(\\.gz)?$') AND NOT ({is_certain}) THEN list_distinct({ids}) ELSE [] END"
    )


def _any(*conditions: str) -> str:
    return "(" + " OR ".join(conditions) + ")"


def _of_a_line(thresholds: Thresholds) -> list[tuple[str, str]]:
    refuses = "true" if thresholds.unmeasured == "refuse" else "false"
    days_late = "date_diff('day', event_day(started_at), day)"
    return [
        ("unreadable_id", _any(*[f"unprinted(raw_{n})" for n in ("user_id", "video_id")])),
        ("long_value", _any(_too_long("user_id", "video_id"))),
        ("missing_user", "user_id IS NULL"),
        ("missing_video", "video_id IS NULL"),
        ("bad_timestamp", "started_at IS NULL"),
        ("bad_watch", "unreadable(raw_watch_ms, watch_ms)"),
        ("missing_watch", f"{refuses} AND watch_ms IS NULL"),
        ("negative_watch", "watch_ms < 0"),
        ("absurd_watch", f"watch_ms > {thresholds.max_watch_ms}"),
        ("future_event", f"{days_late} < 0"),
        ("too_late", f"{days_late} > {thresholds.lateness_days}"),
        ("unknown_video", "known IS NULL"),
        ("no_duration", f"{refuses} AND duration_ms IS NULL"),
    ]  # fmt: skip


def _content() -> str:
    """The JSON text that the events stage takes a digest of, nulls left out."""
    parts = [
        "'{\"at\":' || epoch_us(started_at)",
        *[f"coalesce(',\"{n}\":' || to_json({n}), '')" for n in ("user_id", "video_id", "watch_ms")],
        *[f"',\"{n}\":' || {n}" for n in FLAGS],
        *[f"coalesce(',\"{n}\":' || to_json({n}), '')" for n in ("session_id", "surface")],
        "'}'",
    ]  # fmt: skip
    return " || ".join(parts)


def interactions(thresholds: Thresholds) -> str:
    """Return the statements that make `judged_interactions` of `raw_interactions` and `states`.

    Lines of the day and of the `lateness_days` before it are judged; the last two rules look at both.
    """
    raw = ("user_id", "video_id", "watch_ms")
    bad_flag = {name: f"unreadable({name}, flag({name}))" for name in FLAGS}
    doubtful = {name: bad_flag[name] if name == DISLIKE else "false" for name in FLAGS}
    flags = ", ".join(f"coalesce(flag({name}), {doubtful[name]}) AS {name}" for name in FLAGS)
    optional = ("session_id", "event_id")
    nulled = _nulled(
        ("bad_duration", "unreadable(duration_ms, length_ms(duration_ms)) OR length_ms(duration_ms) < 0"),
        ("bad_flag", _any(*bad_flag.values())),
        ("bad_session", _lost("session_id")),
        ("bad_surface", _lost("surface", is_id=False)),
        ("bad_event_id", _lost("event_id")),
    )  # fmt: skip
    return f"""
CREATE OR REPLACE TABLE typed_interactions AS
SELECT day, file, number, line, unread, {", ".join(f"{n} AS raw_{n}" for n in raw)},
  {", ".join(f"identifier({n}) AS {n}" for n in ("user_id", "video_id"))},
  {", ".join(f"CASE WHEN NOT {_lost(n)} THEN identifier({n}) END AS {n}" for n in optional)},
  CASE WHEN NOT {_lost("surface", is_id=False)} THEN filled(surface) END AS surface, {nulled} AS nulled,
  instant(started_at) AS started_at, whole_number(watch_ms) AS watch_ms, length_ms(duration_ms) AS stated, {flags}
FROM raw_interactions;
CREATE OR REPLACE TABLE ruled_interactions AS
WITH dated AS (
  SELECT typed.*, states.video_id AS known, CASE WHEN stated > 0 THEN stated END AS stated_ms,
    coalesce(CASE WHEN stated > 0 THEN stated END, states.duration_ms) AS duration_ms
  FROM typed_interactions AS typed LEFT JOIN states ON typed.video_id = states.video_id AND typed.day >= states.since
    AND (states.until IS NULL OR typed.day < states.until))
SELECT * EXCLUDE ({", ".join(f"raw_{n}" for n in raw)}), {_first(_of_a_line(thresholds))} AS rule FROM dated;
{_repeats(thresholds.lateness_days)}
"""


def _repeats(lateness_days: int) -> str:
    """Of the lines of an event id that no other rule refuses, those that repeat another or say something else.

    Only ids that come more than once are looked at.
    """
    return f"""
CREATE OR REPLACE TABLE judged_interactions AS
WITH sound AS (
  SELECT *, sha256({_content()}) AS content FROM ruled_interactions WHERE rule IS NULL),
named AS (SELECT *, coalesce(event_id, content) AS identity, -coalesce(watch_ms, -1) AS shorter,
    {{'u': user_id, 'v': video_id, 'd': event_day(started_at)}} AS viewing FROM sound),
several AS (
  SELECT * FROM named WHERE identity IN (SELECT identity FROM named GROUP BY identity HAVING count(*) > 1)),
compared AS (
  SELECT *, min(day) OVER (PARTITION BY identity) AS first_day,
    first(viewing) OVER (PARTITION BY identity ORDER BY day, started_at, shorter, content
      RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS named_viewing,
    count(*) OVER (PARTITION BY identity, content ORDER BY day RANGE BETWEEN INTERVAL {lateness_days} DAY
      PRECEDING AND INTERVAL 1 DAY PRECEDING) AS n_before
  FROM several),
flagged AS (
  SELECT *, day = first_day OR viewing = named_viewing AS same,
    (day = first_day OR viewing = named_viewing) AND n_before = 0 AS fresh FROM compared),
ranked AS (
  SELECT *, row_number() OVER w AS place, first(content) OVER w AS kept FROM flagged
  WINDOW w AS (PARTITION BY identity, day, fresh
    ORDER BY started_at, shorter, content, stated_ms DESC NULLS LAST, file, line)),
repeats AS (
  SELECT file, number, CASE WHEN same AND (n_before > 0 OR content = kept) THEN 'duplicate'
    ELSE 'event_id_conflict' END AS repeat
  FROM ranked WHERE NOT (fresh AND place = 1))
SELECT ruled.* EXCLUDE (rule), coalesce(rule, repeat) AS rule
FROM ruled_interactions AS ruled LEFT JOIN repeats USING (file, number);
"""


_VIDEO_RULES = [
    ("unreadable_id", "unprinted(raw_video_id)"),
    ("missing_video", "video_id IS NULL"),
    ("long_value", _any(_too_long("raw_video_id"))),
    ("bad_eligible", "eligible IS NULL"),
]


def videos() -> str:
    """Return the statements that make `judged_videos` and `states` of `raw_videos`."""
    length = "length_ms(duration_ms)"
    nulled = _nulled(
        ("bad_author", _lost("author_id")),
        ("bad_published_at", "unreadable(published_at, instant_or_date(published_at))"),
        ("bad_duration", f"unreadable(duration_ms, {length}) OR {length} < 0"),
        ("bad_tags", "list_contains(lost, 'tags')"),
    )
    says_true = """coalesce(flag(trim(word, '" ')), false)"""
    withdrawn = _withdrawn("video_id", "eligible", says_true, "bad_eligible")
    order = ("published_at", "duration_ms", "author_id", "caption", "tags")
    return f"""
CREATE OR REPLACE TABLE judged_videos AS
WITH typed AS (
  SELECT day, file, number, line, unread, video_id AS raw_video_id, identifier(video_id) AS video_id,
    CASE WHEN NOT {_lost("author_id")} THEN identifier(author_id) END AS author_id,
    instant_or_date(published_at) AS published_at, {nulled} AS nulled,
    CASE WHEN length_ms(duration_ms) > 0 THEN length_ms(duration_ms) END AS duration_ms, caption,
    list_sort(list_filter(tags, lambda tag: tag IS NOT NULL)) AS tags, flag(eligible) AS eligible
  FROM raw_videos),
ruled AS (SELECT *, {_first(_VIDEO_RULES)} AS own FROM typed),
ranked AS (
  SELECT *, {withdrawn} AS withdrawn,
    row_number() OVER (PARTITION BY own, video_id, day ORDER BY eligible NULLS FIRST,
      {", ".join(f"{n} DESC NULLS LAST" for n in order)}) AS place,
    min(day) OVER (PARTITION BY own, video_id ORDER BY day RANGE BETWEEN INTERVAL 1 DAY FOLLOWING
      AND UNBOUNDED FOLLOWING) AS until
  FROM ruled),
named AS (SELECT day, unnest(withdrawn) AS video_id FROM ranked),
doubts AS (SELECT video_id, max(day) AS doubted_on FROM named GROUP BY video_id)
SELECT ranked.* EXCLUDE (own, eligible), eligible AND coalesce(doubted_on < day, true) AS eligible,
  coalesce(own, CASE WHEN place > 1 OR until IS NOT NULL THEN '{SUPERSEDED}' END) AS rule
FROM ranked LEFT JOIN doubts USING (video_id);
CREATE OR REPLACE TABLE states AS SELECT video_id, day AS since, until,
  last_value(duration_ms IGNORE NULLS) OVER (PARTITION BY video_id ORDER BY day) AS duration_ms
FROM judged_videos WHERE (rule IS NULL OR rule = '{SUPERSEDED}') AND place = 1
"""


_VECTOR_RULES = [
    ("missing_vector", "vector IS NULL OR len(vector) = 0"),
    ("not_finite", "len(list_filter(vector, lambda x: x IS NULL OR NOT isfinite(x))) > 0"),
]
_VIDEO_VECTORS = [
    ("unreadable_id", "unprinted(raw_video_id)"),
    ("missing_video", "video_id IS NULL"),
    ("long_value", _any(_too_long("raw_video_id", "raw_encoder_version"))),
    ("bad_modality", "NOT coalesce(regexp_full_match(modality, '[a-z][a-z0-9_]{0,63}'), false)"),
    ("missing_encoder", "encoder_version IS NULL"),
    *_VECTOR_RULES,
]
_SOUND_CLIP = "clip_no BETWEEN 0 AND 2147483647 AND start_ms >= 0 AND end_ms > start_ms"
_CLIP_VECTORS = [
    ("unreadable_id", "unprinted(raw_video_id)"),
    ("missing_video", "video_id IS NULL"),
    ("long_value", _any(_too_long("raw_video_id"))),
    ("bad_clip", f"NOT coalesce({_SOUND_CLIP}, false)"),
    *_VECTOR_RULES,
]


def features(table: str) -> str:
    """Return the statement that judges `raw_video_features` or `raw_clip_features`, encoder and length by majority."""
    if table == "raw_clip_features":
        numbers = (f"whole_number({n}) AS {n}" for n in ("clip_no", "start_ms", "end_ms"))
        typed = ", ".join([*numbers, "'' AS encoder_version"])
        ties: tuple[str, ...] = ("start_ms", "end_ms")
        return _whole_vectors(table, typed, "video_id, clip_no", "'clip'", ties, _CLIP_VECTORS)
    typed = (
        "encoder_version AS raw_encoder_version, lower(trim(modality, ' ')) AS modality,"
        " filled(encoder_version) AS encoder_version"
    )
    ties = ("encoder_version",)
    return _whole_vectors(table, typed, "modality, video_id", "modality", ties, _VIDEO_VECTORS)


def _whole_vectors(
    table: str, typed: str, key: str, group: str, ties: tuple[str, ...], own: list[tuple[str, str]]
) -> str:
    newest = "day DESC, " + ", ".join(f"{n} DESC NULLS LAST" for n in (*ties, "vector"))
    return f"""
CREATE OR REPLACE TABLE judged_{table.removeprefix("raw_")} AS
WITH typed AS (
  SELECT day, file, number, line, unread, video_id AS raw_video_id, identifier(video_id) AS video_id, vector, {typed}
  FROM {table}),
ruled AS (SELECT *, {group} AS kind, {_first(own)} AS own FROM typed),
spaces AS (
  SELECT kind, encoder_version AS version, len(vector) AS length, count(DISTINCT ({key})) AS n, max(day) AS newest
  FROM ruled WHERE own IS NULL GROUP BY ALL),
chosen AS (
  SELECT * FROM spaces
  QUALIFY row_number() OVER (PARTITION BY kind ORDER BY n DESC, newest DESC, version DESC, length DESC) = 1),
measured AS (
  SELECT ruled.*, coalesce(own, CASE WHEN encoder_version <> chosen.version THEN 'other_encoder'
    WHEN len(vector) <> chosen.length THEN 'wrong_length' END) AS whole
  FROM ruled LEFT JOIN chosen USING (kind))
SELECT * EXCLUDE (own, whole), coalesce(whole, CASE WHEN row_number() OVER (PARTITION BY whole, {key}
    ORDER BY {newest}) > 1 THEN '{SUPERSEDED}' END) AS rule
FROM measured
"""


def requests() -> str:
    """Return the statement that judges `raw_privacy_requests`."""
    rules = [
        ("unreadable_id", "unprinted(raw_user_id)"),
        ("missing_user", "user_id IS NULL"),
        ("long_value", _any(_too_long("raw_user_id"))),
        ("unknown_kind", f"NOT coalesce(kind IN {tuple(SPELLINGS)}, false)"),
        ("bad_timestamp", "kind = 'opt_in' AND requested_at IS NULL"),
    ]
    says_opt_in = f"""({_kind_of('''trim(word, '" ')''')} = 'opt_in')"""
    withdrawn = _withdrawn("user_id", "kind", says_opt_in, "unknown_kind")
    return f"""
CREATE OR REPLACE TABLE judged_privacy_requests AS
WITH typed AS (
  SELECT day, file, number, line, unread, user_id AS raw_user_id, identifier(user_id) AS user_id,
    {_kind_of("kind")} AS kind, instant(requested_at) AS requested_at
  FROM raw_privacy_requests),
ruled AS (SELECT *, {_first(rules)} AS own FROM typed)
SELECT * EXCLUDE (own), own AS rule, {withdrawn} AS withdrawn FROM ruled
"""


def preferences() -> str:
    """Return the statement that judges `raw_preferences`."""
    rules = [
        ("unreadable_id", "unprinted(raw_user_id) OR unprinted(raw_value)"),
        ("missing_user", "user_id IS NULL"),
        ("long_value", _any(_too_long("raw_user_id", "raw_value"))),
        ("unknown_kind", f"NOT coalesce(kind IN {PREFERENCES}, false)"),
        ("missing_value", f"kind IN {(*BLOCKS, UNBLOCK)} AND value IS NULL"),
    ]
    return f"""
CREATE OR REPLACE TABLE judged_preferences AS
WITH typed AS (
  SELECT day, file, number, line, unread, user_id AS raw_user_id, identifier(user_id) AS user_id,
    {_plain("kind")} AS kind, value AS raw_value, identifier(value) AS value, instant(requested_at) AS requested_at
  FROM raw_preferences)
SELECT *, {_first(rules)} AS rule FROM typed
"""


def media() -> str:
    """Return the statement that judges `raw_media`."""
    rules = [
        ("unreadable_id", "unprinted(raw_video_id)"),
        ("missing_video", "video_id IS NULL"),
        ("long_value", _any(_too_long("raw_video_id"), "coalesce(length(path), 0) > 1024")),
        ("unknown_kind", "NOT coalesce(kind IN ('video', 'cover', 'sound'), false)"),
    ]
    return f"""
CREATE OR REPLACE TABLE judged_media AS
WITH typed AS (
  SELECT day, file, number, line, unread, video_id AS raw_video_id, identifier(video_id) AS video_id,
    {_plain("kind")} AS kind, trim(path, ' ') AS path
  FROM raw_media)
SELECT *, {_first(rules)} AS rule FROM typed
"""


def _plain(text: str) -> str:
    """A text as kinds are compared."""
    return f"regexp_replace(lower(trim({text}, ' ')), '{SEPARATORS}', '_', 'g')"


def _kind_of(text: str) -> str:
    """The kind that a text spells; the text as it is compared where it spells none."""
    plain = _plain(text)
    cases = (f"WHEN {plain} IN {spelt} THEN '{kind}'" for kind, spelt in SPELLINGS.items())
    return f"CASE {' '.join(cases)} ELSE {plain} END"


def mixed_times(day: dt.date) -> str:
    """Return the query of the files of a day that have times with an offset and times without.

    Args:
        day: of arrival.

    Returns:
        A query of one row per such file: table, file, n_zoned and n_zoneless, as `microrec.events.zones` counts them.
    """
    texts = " UNION ALL ".join(
        f"SELECT '{table}' AS \"table\", file, trim({column}, ' ') AS text FROM {table} WHERE day = DATE '{day}'"
        for table, column in TIMES.items()
    )
    timed = "regexp_matches(text, '^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:')"
    zoned = "regexp_matches(text, '([Zz]|[+-][0-9]{2}:?[0-9]{2})$')"
    return (
        f'SELECT "table", file, count(*) FILTER ({zoned}) AS n_zoned, count(*) FILTER (NOT {zoned}) AS n_zoneless'
        f" FROM ({texts}) WHERE {timed} GROUP BY ALL HAVING n_zoned > 0 AND n_zoneless > 0 ORDER BY ALL"
    )


def feedback(thresholds: Thresholds) -> str:
    """Return the SQL of the label of an accepted viewing, see `microrec.events.signals`."""
    ratio = "watch_ms / duration_ms"
    reacted = "liked OR shared OR followed OR commented"
    counted = "true" if thresholds.unmeasured == "positive" else "false"
    watched = f"coalesce({ratio} >= {thresholds.completed_ratio} OR watch_ms >= {thresholds.long_watch_ms}, false)"
    skipped = f"watch_ms < {thresholds.skip_ms} AND {ratio} < {thresholds.completed_ratio}"
    return (
        f"CASE WHEN disliked THEN 'negative' WHEN {reacted} OR {watched} OR ({counted} AND watch_ms IS NULL)"
        f" THEN 'positive' WHEN {skipped} THEN 'negative' ELSE 'neutral' END"
    )
