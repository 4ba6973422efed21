"""Every rule has its row; the first one wins; of repeats exactly one line is kept."""

import datetime as dt
import json
import random
from collections import Counter
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from microrec.events import parse, rules
from microrec.events.config import Config
from tests.worlds.event_lines import MONDAY, later, lines, states

pytestmark = pytest.mark.spark

LATENESS = 2
ACCEPTED = None
CASES: list[tuple[str | None, dict[str, Any]]] = [
    (ACCEPTED, {}),
    ("malformed_line", {"malformed": True, "user_id": None}),
    ("line_too_long", {"malformed": True, "too_long": True}),
    ("array_line", {"malformed": True, "line": ' [{"user_id": "u1"}]'}),
    ("duplicate_key", {"malformed": True, "line": '{"user_id": "u1", "user_id": "u2"}'}),
    ("not_a_number", {"malformed": True, "line": '{"a": "b", "watch_ms": NaN}'}),
    ("malformed_line", {"malformed": True, "line": '{"a": ": NaN", "b": "\\"[Infinity"'}),
    ("malformed_line", {"malformed": True, "line": "[1", "file": "raw_interactions/part-0.csv"}),
    ("inexact_id", {"user_id": None, "unread": ["user_id"]}),
    ("unreadable_id", {"video_id": "v\x001"}),
    ("unreadable_id", {"user_id": "a\ufffd"}),
    (ACCEPTED, {"video_id": "\u00a0\tv1 \u3000\n"}),
    ("missing_user", {"user_id": " "}),
    ("missing_user", {"user_id": "\u00a0"}),
    ("long_value", {"user_id": "u" * 513}),
    (ACCEPTED, {"user_id": "ü" * 512}),
    ("long_value", {"video_id": "v" * 513, "watch_ms": "-1"}),
    ("missing_video", {"video_id": None}),
    ("bad_timestamp", {"started_at": "yesterday"}),
    ("missing_watch", {"watch_ms": None}),
    ("missing_watch", {"watch_ms": " "}),
    ("bad_watch", {"watch_ms": "5 s"}),
    ("negative_watch", {"watch_ms": "-1"}),
    ("bad_watch", {"watch_ms": "-9223372036854775808"}),  # its negative is no bigint
    (ACCEPTED, {"watch_ms": "0"}),
    ("absurd_watch", {"watch_ms": "86400001"}),
    (ACCEPTED, {"watch_ms": "86400000"}),
    ("no_duration", {"video_id": "endless", "duration_ms": "ten"}),
    ("bad_timestamp", {"started_at": "9999-12-31T23:59:59-14:00"}),
    ("future_event", {"started_at": "2026-01-06T00:00:00Z"}),
    (ACCEPTED, {"started_at": "2026-01-05T23:59:59.999999Z"}),
    ("too_late", {"started_at": "2026-01-02T23:59:59.999999Z"}),
    (ACCEPTED, {"started_at": "2026-01-03T00:00:00Z"}),
    ("unknown_video", {"video_id": "v404"}),
    ("unknown_video", {"video_id": "tomorrow"}),
    ("no_duration", {"video_id": "endless", "duration_ms": "0"}),
    (ACCEPTED, {"video_id": "endless", "watch_ms": "4000"}),
    # Several faults: the first rule of the list.
    ("malformed_line", {"malformed": True, "watch_ms": "-1"}),
    ("missing_user", {"user_id": None, "video_id": None}),
    ("missing_video", {"video_id": None, "started_at": None}),
    ("bad_timestamp", {"started_at": None, "watch_ms": None}),
    ("negative_watch", {"watch_ms": "-5", "duration_ms": "ten"}),
    ("future_event", {"liked": "maybe", "started_at": "2026-01-06T00:00:00Z"}),
    ("too_late", {"started_at": "2025-01-01T00:00:00Z", "video_id": "v404"}),
    ("unknown_video", {"video_id": "v404", "duration_ms": None}),
]


def known(spark: SparkSession) -> DataFrame:
    return states(
        spark,
        ("v1", later(-9), None, 10_000),
        ("v2", later(-9), MONDAY, 20_000),
        ("v2", MONDAY, later(1), 30_000),
        ("v2", later(1), None, 40_000),
        ("endless", later(-9), None, None),
        ("tomorrow", later(1), None, 10_000),
    )


def judged(spark: SparkSession, *changes: dict[str, Any], days: Any = (MONDAY,)) -> list[Any]:
    """The verdicts, in the order of the changes."""
    verdicts = rules.judge(
        parse.interactions(lines(spark, *changes)),
        known(spark),
        days=days,
        config=Config(),
        lateness_days=LATENESS,
    ).collect()
    given = {change["line"]: number for number, change in enumerate(changes) if "line" in change}

    def number(row: Any) -> int:
        return given[row.line] if row.line in given else int(json.loads(row.line)["number"])

    return sorted(verdicts, key=number)


def refusals(spark: SparkSession, *changes: dict[str, Any], days: Any = (MONDAY,)) -> list[Any]:
    return [row.rule for row in judged(spark, *changes, days=days)]


def test_rules_each_has_its_case(spark: SparkSession) -> None:
    changes = [change | {"user_id": change.get("user_id", f"u{n}")} for n, (_, change) in
               enumerate(CASES)]  # fmt: skip
    assert refusals(spark, *changes) == [rule for rule, _ in CASES]


def test_rules_cases_cover_every_rule_of_a_line(spark: SparkSession) -> None:
    declared = [name for name, _ in parse.read_rules("user_id")]
    declared += [name for name, _ in rules._of_a_line(Config(), LATENESS)]
    assert set(declared) == {rule for rule, _ in CASES if rule}


OPTIONAL: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # rule, what was delivered, what the viewing has
    ("bad_duration", {"duration_ms": "ten"}, {"duration_ms": 10_000}),
    ("bad_duration", {"duration_ms": "-10000"}, {"duration_ms": 10_000}),
    ("bad_duration", {"duration_ms": str(2**31)}, {"duration_ms": 10_000}),
    ("bad_flag", {"liked": "maybe"}, {"liked": False, "disliked": False}),
    ("bad_flag", {"disliked": "2"}, {"disliked": True}),
    ("bad_flag", {"shared": "yes", "disliked": "0"}, {"shared": False, "disliked": False}),
    ("bad_session", {"session_id": None, "unread": ["session_id"]}, {"session_id": None}),
    ("bad_session", {"session_id": "a\ufffd"}, {"session_id": None}),
    ("bad_surface", {"surface": "s" * 513}, {"surface": None}),
]


def test_optional_values_take_no_viewing_along(spark: SparkSession) -> None:
    changes = [change | {"user_id": f"u{n}"} for n, (_, change, _) in enumerate(OPTIONAL)]
    for (rule, _, values), row in zip(OPTIONAL, judged(spark, *changes), strict=True):
        assert (row.rule, row.nulled) == (ACCEPTED, [rule])
        assert {name: row[name] for name in values} == values


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": None, "unread": ["liked", "event_id"]},
        {"event_id": "e" * 513},
        {"event_id": "e\x00"},
    ],
)
def test_event_id_that_cannot_be_read_is_a_digest_of_the_viewing(
    spark: SparkSession, change: dict[str, Any]
) -> None:
    plain, changed = judged(spark, {"user_id": "u1"}, {"user_id": "u1"} | change)
    assert changed.nulled == ["bad_event_id"]
    assert changed.event_id == plain.event_id
    assert sorted(str(row.rule) for row in (plain, changed)) == ["None", "duplicate"]


def test_length_is_the_lines_or_the_catalogues_on_arrival(
    spark: SparkSession,
) -> None:
    found = judged(
        spark,
        {"video_id": "v2", "duration_ms": None},
        {"video_id": "v2", "duration_ms": "0", "watch_ms": "1"},
        {"video_id": "v2", "duration_ms": "7000", "watch_ms": "2"},
        {
            "video_id": "v2",
            "duration_ms": None,
            "day": later(-1),
            "started_at": "2026-01-04T10:00Z",
        },
        {"video_id": "v2", "duration_ms": None, "day": later(1), "started_at": "2026-01-06T10:00Z"},
        days=[later(-1), MONDAY, later(1)],
    )
    assert [row.duration_ms for row in found] == [30_000, 30_000, 7_000, 20_000, 40_000]


def test_duplicates_exact_one_is_kept(spark: SparkSession) -> None:
    found = refusals(spark, {}, {}, {"duration_ms": None}, {"event_id": "e1"}, {"event_id": "e1"})
    assert Counter(found) == {None: 2, "duplicate": 3}


def test_duplicates_with_and_without_length_the_one_with_is_kept(spark: SparkSession) -> None:
    assert refusals(spark, {"duration_ms": None}, {"duration_ms": "7000"}) == ["duplicate", None]


def test_duplicates_id_of_two_viewings_keeps_the_first_begun(spark: SparkSession) -> None:
    found = refusals(
        spark,
        {"event_id": "e", "started_at": "2026-01-05T12:00:00Z"},
        {"event_id": "e", "started_at": "2026-01-05T11:00:00Z"},
        {"event_id": "e", "started_at": "2026-01-05T11:00:00Z"},
        {"event_id": "e", "started_at": "2026-01-05T11:00:00Z", "watch_ms": "1"},
        {"event_id": "f", "started_at": "2026-01-05T12:00:00Z"},
    )
    assert found[0] == found[3] == "event_id_conflict"
    assert Counter(found[1:3]) == {None: 1, "duplicate": 1}
    assert found[4] is None


def test_duplicates_across_days_the_earlier_arrival_is_kept(spark: SparkSession) -> None:
    sunday = {"day": later(-1), "started_at": "2026-01-04T10:00:00Z"}
    again = sunday | {"day": MONDAY}
    changes = [
        sunday,
        again,
        again,
        sunday | {"event_id": "e"},
        again | {"event_id": "e"},
        again | {"event_id": "e", "video_id": "v2"},
    ]
    found = refusals(spark, *changes, days=[later(-1), MONDAY])
    assert found == [None, "duplicate", "duplicate", None, "duplicate", "event_id_conflict"]
    assert refusals(spark, *changes) == [*["duplicate"] * 3, "event_id_conflict"]


SUNDAYS = {"event_id": "e", "day": later(-1), "started_at": "2026-01-04T10:00:00Z", "liked": "1"}
CORRECTIONS: list[tuple[str | None, dict[str, Any]]] = [
    (None, {"liked": "0"}),
    (None, {"liked": "0", "disliked": "1"}),
    (None, {"watch_ms": "4000"}),
    (None, {"started_at": "2026-01-04T23:00:00Z"}),
    (None, {"session_id": "s"}),
    ("duplicate", {}),
    ("duplicate", {"duration_ms": "9000"}),
    ("event_id_conflict", {"user_id": "u2"}),
    ("event_id_conflict", {"video_id": "v2", "liked": "0"}),
    ("event_id_conflict", {"started_at": "2026-01-05T10:00:00Z"}),
    ("event_id_conflict", {"started_at": "2026-01-03T23:59:59Z"}),
    ("too_late", {"liked": "0", "day": later(2)}),
    ("negative_watch", {"watch_ms": "-1"}),
]


@pytest.mark.parametrize(("rule", "change"), CORRECTIONS, ids=str)
def test_corrections_other_content_of_a_viewing_replaces_it(
    spark: SparkSession, rule: str | None, change: dict[str, Any]
) -> None:
    line = SUNDAYS | {"day": MONDAY} | change
    _, found = judged(spark, SUNDAYS, line, days=[later(-1), line["day"]])
    assert found.rule == rule
    assert found.corrects == (None if rule else later(-1))


def test_corrections_on_the_arrival_day_do_not_apply(spark: SparkSession) -> None:
    changes = [SUNDAYS, SUNDAYS | {"liked": "0", "started_at": "2026-01-04T10:00:01Z"}]
    found = judged(spark, *changes, days=[later(-1)])
    assert [(row.rule, row.corrects) for row in found] == [
        (None, None),
        ("event_id_conflict", None),
    ]


def test_corrections_redelivered_original_does_not_undo(spark: SparkSession) -> None:
    unliked = SUNDAYS | {"day": MONDAY, "liked": "0"}
    tuesday = {"day": later(1)}
    changes = [
        SUNDAYS, unliked, SUNDAYS | tuesday, unliked | tuesday, unliked | tuesday | {"disliked": "1"}
    ]  # fmt: skip
    found = judged(spark, *changes, days=[later(-1), MONDAY, later(1)])
    assert [row.rule for row in found] == [None, None, "duplicate", "duplicate", None]
    assert [row.corrects for row in found] == [None, later(-1), None, None, later(-1)]


def test_corrections_two_of_a_day_one_stands(spark: SparkSession) -> None:
    longer, shorter = ({"day": MONDAY, "watch_ms": watch} for watch in ("9000", "8000"))
    changes = [SUNDAYS, *[SUNDAYS | one for one in (shorter, longer, longer)]]
    found = judged(spark, *changes)
    assert Counter((row.rule, row.corrects) for row in found) == {
        ("event_id_conflict", None): 1,
        (None, later(-1)): 1,
        ("duplicate", None): 1,
    }
    assert {row.watch_ms for row in found if row.rule is None} == {9000}


def test_lateness_zero_days_are_independent(spark: SparkSession) -> None:
    early = {"day": later(-1), "started_at": "2026-01-04T10:00:00Z", "event_id": "e"}
    verdicts = rules.judge(
        parse.interactions(lines(spark, early, {"event_id": "e"})),
        known(spark),
        days=[later(-1), MONDAY],
        config=Config(),
        lateness_days=0,
    ).collect()
    assert [row.rule for row in verdicts] == [None, None]


def test_rejected_line_does_not_block_a_valid_one(spark: SparkSession) -> None:
    early = {
        "day": later(-1),
        "video_id": "v2",
        "event_id": "e",
        "started_at": "2026-01-05T10:00:00Z",
    }
    assert refusals(spark, early, early | {"day": MONDAY}) == [None]


def test_duplicates_id_is_free_after_the_lateness(spark: SparkSession) -> None:
    old = {"event_id": "e", "day": later(-3), "started_at": "2026-01-02T10:00:00Z"}
    assert refusals(spark, old, {"event_id": "e"}) == [None]
    assert refusals(spark, old | {"day": later(-2)}, {"event_id": "e"}) == ["event_id_conflict"]


# --- A dirty random world against a loop over its lines ---------------------------------------------

DAYS = [later(n) for n in range(-4, 1)]


def world(seed: int, n_lines: int = 1000) -> list[dict[str, Any]]:
    """Lines of 48 viewings, each told in three ways, that arrive again and again, some under an id
    that other viewings have too.
    """
    pick = random.Random(seed)
    viewings = [
        {
            "user_id": pick.choice(["u1", "007", "7", "7", "7", None]),
            "video_id": pick.choice(["v1", "v1", "v1", "v2", "v2", "v404"]),
            "started_at": f"{later(-pick.randint(-1, 5))}T10:00:00Z",
        }
        for _ in range(48)
    ]
    told = []
    for n in range(n_lines):
        number, told_as = pick.randrange(48), pick.randrange(3)
        watch_ms = 1000 + 10 * number + told_as
        told.append(
            viewings[number]
            | {
                "watch_ms": str(watch_ms if number % 7 else -watch_ms),
                "line": str(n),
                "day": pick.choice(DAYS),
                "duration_ms": pick.choice(["9000", None]),
                "event_id": pick.choice([None, "a", *[f"own-{number}"] * 3]),
            }
        )
    return told


def of_a_line(line: dict[str, Any]) -> str | None:
    age = (line["day"] - dt.date.fromisoformat(line["started_at"][:10])).days
    faults = {
        "missing_user": line["user_id"] is None,
        "negative_watch": int(line["watch_ms"]) < 0,
        "future_event": age < 0,
        "too_late": age > LATENESS,
        "unknown_video": line["video_id"] == "v404",
    }
    return next((name for name, fits in faults.items() if fits), None)


def key_of(line: dict[str, Any], rule: str | None, corrects: Any = None) -> tuple[Any, ...]:
    return line["day"], line["watch_ms"], line["event_id"], corrects, rule


def viewing_of(line: dict[str, Any]) -> tuple[Any, ...]:
    return line["user_id"], line["video_id"], line["started_at"][:10]


def expected(changes: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Verdicts by a loop. The watch time tells viewings apart."""
    found = Counter(key_of(line, of_a_line(line)) for line in changes if of_a_line(line))
    sound = [line for line in changes if not of_a_line(line)]
    # First day first; of a day the earliest beginning, then the longest.
    sound.sort(key=lambda line: (line["day"], line["started_at"], -int(line["watch_ms"])))
    kept: dict[tuple[Any, ...], str] = {}
    for line in sound:
        identity = line["event_id"] or line["watch_ms"]
        before = [
            other
            for other in sound
            if (other["event_id"] or other["watch_ms"]) == identity
            and 0 < (line["day"] - other["day"]).days <= LATENESS
        ]
        same = not before or viewing_of(before[0]) == viewing_of(line)
        came = line["watch_ms"] in [other["watch_ms"] for other in before]
        if same and not came and (identity, line["day"]) not in kept:
            kept[identity, line["day"]] = line["watch_ms"]
            found[key_of(line, None, before[0]["day"] if before else None)] += 1
        else:
            repeat = came or kept.get((identity, line["day"])) == line["watch_ms"]
            found[key_of(line, rules.DUPLICATE if same and repeat else rules.CONFLICT)] += 1
    return found


def verdicts(
    spark: SparkSession, changes: list[dict[str, Any]], days: list[dt.date]
) -> Counter[tuple[Any, ...]]:
    found = rules.judge(
        parse.interactions(lines(spark, *changes)),
        known(spark),
        days=days,
        config=Config(),
        lateness_days=LATENESS,
    )
    of = {change["line"]: change for change in changes}
    rows = found.select("line", "rule", "corrects").collect()
    return Counter(key_of(of[row.line], row.rule, row.corrects) for row in rows)


@pytest.mark.parametrize("seed", [1, 2])
def test_judge_random_world_equals_a_loop(spark: SparkSession, seed: int) -> None:
    changes = world(seed)
    found = verdicts(spark, changes, DAYS)
    assert found == expected(changes)
    assert {key[-1] for key in found} >= {None, rules.DUPLICATE, rules.CONFLICT, "too_late"}
    assert sum(n for key, n in found.items() if key[-2]) > 5, "corrections"


def test_judge_order_of_lines_and_days_does_not_matter(spark: SparkSession) -> None:
    changes = world(3)
    at_once = verdicts(spark, changes, DAYS)
    assert sum(at_once.values()) == len(changes)
    assert at_once == verdicts(spark, random.Random(3).sample(changes, len(changes)), DAYS)
    by_day: Counter[tuple[Any, ...]] = Counter()
    for day in DAYS:
        near = [line for line in changes if 0 <= (day - line["day"]).days <= LATENESS]
        by_day += verdicts(spark, near, [day])
    assert at_once == by_day
