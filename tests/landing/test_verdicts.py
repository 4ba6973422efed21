"""The rules in SQL say what the rules of the events stage say: over one table of examples, and on whole days."""

import datetime as dt
import random
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs import validate_events
from microrec.config.settings import HOME
from microrec.events import catalogue, consent, parse, rules, zones
from microrec.events.config import Config
from microrec.landing import inspection, lines, readers, verdicts, verify, write
from microrec.landing.importers import kuairand
from microrec.landing.verdicts import Thresholds
from microrec.synth import world
from microrec.tables import contract
from microrec.tables.arrow import Warehouse
from tests.worlds import event_lines
from tests.worlds.event_lines import COLUMNS, MONDAY, later

pytestmark = pytest.mark.spark

LATENESS = 2
ODD: list[str | None] = [
    None, "", " ", "\u00a0", " u1 ", "\u00a0u1", "\x01", "a\ufffd", "x" * 512, "x" * 513, "0", "1", "-1", "+5",
    "1.0", "1.50", "007", "0.0", "1e5", "999999999999999", "9999999999999999", "2147483647", "2147483648",
    "-2147483649", "86400000", "86400001", "true", "TRUE ", "yes", "false", "2026-01-05T10:00:00Z",
    "2026-01-05 10:00", "2026-01-05t10:00z", "2026-01-05", "2026-01-02", "2026-01-04T23:59:59.999999999+0530",
    "2026-02-30T10:00:00Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-14:00",
    "2026-01-05T24:00:00Z", "2026-01-05T10:00:60Z", "2026-01-05T10:00:00+18:00", "2026-01-05T10:00:00+18:30",
    "2026-01-06T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-02T23:59:59Z", "10:00:00", "1767607200",
    "1767607200000", "opt_out", "OPT_IN ", "erase", "visual", "Visual", "1visual", "v404", "v1\n",
    "Opt-Out", "opt  in", "Forget", "delete-", "optin",
]  # fmt: skip
LISTS: list[list[float] | None] = [
    None, [], [1.0], [0.0, 0.0], [1.0, float("nan")], [float("inf"), 1.0], [1.0, 2.0, 3.0],
]  # fmt: skip


OPTIONAL_ID_OR_LIST = ("author_id", "tags", "session_id", "event_id")


def thresholds(config: Config = Config(), lateness_days: int = LATENESS) -> Thresholds:  # noqa: B008
    labels = config.model_dump(include=set(Thresholds.__annotations__))
    return Thresholds(lateness_days=lateness_days, **labels)


def changes(table: str) -> list[dict[str, Any]]:
    """Every column with every odd value, alone; and combinations of two."""
    columns = COLUMNS[table]
    single = [
        {column: value}
        for column in columns
        if column != "tags"
        for value in (LISTS if column == "vector" else ODD)
    ]
    single += [
        {column: None, "unread": [column]} for column in columns if column in OPTIONAL_ID_OR_LIST
    ]
    generator = random.Random(19)
    pairs = [generator.choice(single) | generator.choice(single) for _ in range(300)]
    rows = [*single, *pairs]
    if table == "raw_interactions":
        for number, row in enumerate(rows):
            row.setdefault("event_id", f"e{number}")
    return rows


def in_duckdb(
    table: str, rows: list[dict[str, Any]], timezone: str = "UTC"
) -> duckdb.DuckDBPyConnection:
    """The rows as `lines` would load them."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(verdicts.macros(timezone))
    for name in COLUMNS:
        lines.create(connection, contract.load(HOME / "schemas", name))
    complete = [
        {
            "day": row.get("day", MONDAY), "file": row.get("file", f"{table}/part"), "number": number,
            "line": row.get("line", str(number)),
            "unread": "line_too_long" if row.get("too_long") else "malformed_line" if row.get("malformed") else None,
            "lost": row.get("unread", []),
        }
        | COLUMNS[table] | {key: value for key, value in row.items() if key in COLUMNS[table]}
        for number, row in enumerate(rows)
    ]  # fmt: skip
    schema = connection.execute(f"SELECT * FROM {table}").to_arrow_table().schema
    staged = pa.Table.from_pylist(complete, schema=schema)
    connection.register("staged", staged)
    connection.execute(f"INSERT INTO {table} SELECT * FROM staged")
    return connection


def ruled(
    connection: duckdb.DuckDBPyConnection, judged: str, where: str = "true"
) -> dict[int, Any]:
    """Rule and values passed over, by number of the line."""
    query = f"SELECT CAST(line AS INTEGER), rule, nulled FROM {judged} WHERE {where}"
    return {
        number: (rule, tuple(rules)) for number, rule, rules in connection.execute(query).fetchall()
    }


def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"line": str(number)} for number, row in enumerate(rows)]


def differences(
    rows: list[dict[str, Any]], sql: dict[int, Any], spark: dict[int, Any]
) -> list[tuple[Any, ...]]:
    assert sql.keys() == spark.keys()
    return [(rows[n], sql[n], spark[n]) for n in sorted(sql) if sql[n] != spark[n]]


KNOWN = [
    ("v1", later(-9), None, 10_000),
    ("endless", later(-9), None, None),
    ("tomorrow", later(1), None, 10_000),
]


def interactions_by_spark(
    spark: SparkSession, rows: list[dict[str, Any]], config: Config, timezone: str = "UTC"
) -> dict[int, Any]:
    judged = rules.judge(
        parse.interactions(event_lines.lines(spark, *numbered(rows)), timezone),
        event_lines.states(spark, *KNOWN),
        days=[MONDAY],
        config=config,
        lateness_days=LATENESS,
    )
    rows_judged = judged.select("line", "rule", "nulled").collect()
    return {int(row.line): (row.rule, tuple(row.nulled)) for row in rows_judged}


def interactions_by_sql(
    rows: list[dict[str, Any]], config: Config, timezone: str = "UTC"
) -> dict[int, Any]:
    connection = in_duckdb("raw_interactions", rows, timezone)
    connection.execute(
        "CREATE TABLE states (video_id VARCHAR, since DATE, until DATE, duration_ms BIGINT)"
    )
    connection.executemany("INSERT INTO states VALUES (?, ?, ?, ?)", KNOWN)
    connection.execute(verdicts.interactions(thresholds(config)))
    return ruled(connection, "judged_interactions", f"day = DATE '{MONDAY}'")


@pytest.mark.parametrize(
    ("unmeasured", "timezone"), [("refuse", "UTC"), ("neutral", "UTC"), ("refuse", "Asia/Shanghai")]
)
def test_rules_of_viewings_agree_on_odd_values(
    spark: SparkSession, unmeasured: Any, timezone: str
) -> None:
    config = Config(unmeasured=unmeasured)
    rows = changes("raw_interactions")
    rows += [{"video_id": "endless", "duration_ms": value} for value in ("0", None, "9", "-9")]
    sql = interactions_by_sql(rows, config, timezone)
    assert not differences(rows, sql, interactions_by_spark(spark, rows, config, timezone))
    assert len({rule for rule, _ in sql.values()}) > 10
    passed_over = {rule for _, nulled in sql.values() for rule in nulled}
    assert passed_over == {"bad_duration", "bad_flag", "bad_session", "bad_surface", "bad_event_id"}


def test_rules_of_viewings_agree_on_repeats_and_corrections(spark: SparkSession) -> None:
    generator = random.Random(7)
    rows = [
        {
            "day": later(-generator.randrange(3)),
            "event_id": generator.choice([None, "e1", "e2", "e3", "e4"]),
            "user_id": generator.choice(["u1", "u2"]),
            "started_at": f"2026-01-0{generator.choice('345')}T1{generator.choice('01')}:00:00Z",
            "watch_ms": generator.choice(["100", "200", "-1"]),
            "duration_ms": generator.choice([None, "9000"]),
            "liked": generator.choice(["0", "1"]),
        }
        for _ in range(250)
    ]
    sql = interactions_by_sql(rows, Config())
    by_spark = interactions_by_spark(spark, rows, Config())
    # Which of two equal lines repeats the other is a matter of their text.
    assert Counter(sql.values()) == Counter(by_spark.values())
    assert {"duplicate", "event_id_conflict", None} <= {rule for rule, _ in sql.values()}


@pytest.mark.parametrize(
    ("table", "judge", "statement"),
    [
        ("raw_videos", catalogue.judge_videos, verdicts.videos()),
        ("raw_video_features", catalogue.judge_video_features, verdicts.features("raw_video_features")),
        ("raw_clip_features", catalogue.judge_clip_features, verdicts.features("raw_clip_features")),
        ("raw_privacy_requests", consent.judge_requests, verdicts.requests()),
    ],
)  # fmt: skip
def test_rules_of_other_tables_agree_on_odd_values(
    spark: SparkSession, table: str, judge: Any, statement: str
) -> None:
    rows = changes(table)
    key = {"raw_privacy_requests": "user_id"}.get(table, "video_id")
    for number, row in enumerate(rows):
        row.setdefault(key, f"k{number}")
    connection = in_duckdb(table, rows)
    connection.execute(statement)
    judged = judge(event_lines.rows(spark, table, *numbered(rows)))
    names = [name for name in ("rule", "nulled", "withdrawn") if name in judged.columns]
    of_sql = connection.execute(
        f"SELECT {', '.join(names)} FROM {verdicts_table(table)}"
    ).fetchall()
    by_sql = Counter(map(str, of_sql))
    assert by_sql == Counter(str(tuple(row)) for row in judged.select(*names).collect())
    assert len(by_sql) > 3


BROKEN = [
    '{"video_id": "v1", "user_id": "u1", "eligible": false, "kind": "era',
    '{"video_id": "v1", "user_id": 17, "eligible": true, "kind": "opt_in", "dur',
    '{"video_id": "v1", "user_id": 1.5, "eligible": "yes", "kind": " OPT_IN", "dur',
    '{"video_id": "a\\u0062", "user_id": "u\\n", "video_id": " v2 "} {"user_id": "u2"}',
    '{"caption": "\\"video_id\\": \\"v3\\"", "video_id": "v',
    '[{"video_id": "v1", "user_id": "u1"}, {"video_id": "v1", "user_id": "u4", "eligible": 1}]',
    '{"video_id": "' + "v" * 513 + '", "user_id": "\ufffd", ',
    "no object",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl.gz", "csv"])
@pytest.mark.parametrize(
    ("table", "judge", "statement"),
    [
        ("raw_videos", catalogue.judge_videos, verdicts.videos()),
        ("raw_privacy_requests", consent.judge_requests, verdicts.requests()),
    ],
)
def test_withdrawals_of_broken_lines_agree(
    spark: SparkSession, table: str, judge: Any, statement: str, kind: str
) -> None:
    rows = [{"malformed": True, "line": line, "file": f"{table}/part.{kind}"} for line in BROKEN]
    connection = in_duckdb(table, rows)
    connection.execute(statement)
    query = f"SELECT line, list_sort(withdrawn) FROM {verdicts_table(table)}"
    by_sql = dict(connection.execute(query).fetchall())
    judged = judge(event_lines.rows(spark, table, *rows)).select("line", "withdrawn")
    assert by_sql == {row.line: sorted(row.withdrawn) for row in judged.collect()}
    assert any(by_sql.values()) == (kind == "jsonl.gz")


VECTORS = [
    "[1.0, 2.0]", "[NaN, 1.0]", '["NaN", 1.0]', "[ -Infinity ]", '["Infinity"]', "[+Infinity]", "[INF]", "[1e400]",
    '["1", 2.0]', "[NaN", "[1.0], NaN",
]  # fmt: skip
BESIDE_VECTORS = [
    '"more": {"a": NaN}', '"more": [1, Infinity]', '"more": "[NaN"', '"more": "\\"[NaN"', '"more": "}", "most": NaN',
]  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_nan_and_infinity_of_text_files_are_refused_alike(
    spark: SparkSession, place: Path, kind: str
) -> None:
    """By the night and by the inspection: a line of JSON that has one is none, a vector that has one is not finite."""
    table = "raw_video_features"
    if kind == "csv":
        quoted = [vector.replace('"', '""') for vector in VECTORS]
        texts = [f'v{n},visual,1,"{each}"' for n, each in enumerate(quoted)]
        texts.insert(0, "video_id,modality,encoder_version,vector")
    else:
        named = '{"video_id": "v1", "modality": "visual", "encoder_version": "1", "vector": '
        ends = [*VECTORS, *[f"[1.0], {each}" for each in BESIDE_VECTORS]]
        texts = [f"{named}{end}}}" for end in ends]
    path = write.write_lines(str(place), table, MONDAY, texts, kind=kind)
    connection = duckdb.connect()
    connection.execute(verdicts.macros("UTC"))
    promised = contract.load(HOME / "schemas", table)
    lines.create(connection, promised)
    lines.load(connection, promised, path, verify.DEFAULT)
    connection.execute(verdicts.features(table))
    by_sql = dict(connection.execute("SELECT line, rule FROM judged_video_features").fetchall())
    judged = catalogue.judge_video_features(
        readers.read_days(spark, str(place), table, [MONDAY], limits=verify.DEFAULT)
    )
    assert by_sql == {row.line: row.rule for row in judged.select("line", "rule").collect()}
    counted = Counter(by_sql.values())
    assert counted["not_finite"] > 2
    assert (counted["not_a_number"] > 5) == (kind == "jsonl")


ONCE_MORE = ["2026-01-05T10:00:00Z", "2026-01-05T10:00"]


@pytest.mark.parametrize("table", verdicts.TIMES)
def test_mixed_times_agree(spark: SparkSession, table: str) -> None:
    """A file for each odd value, beside one time with an offset or one without."""
    column = verdicts.TIMES[table]
    rows = [
        {"file": f"{table}/{number}-{beside}", column: time}
        for number, value in enumerate(ODD)
        for beside, other in enumerate(ONCE_MORE)
        for time in (value, other)
    ]
    connection = in_duckdb(table, rows)
    by_sql = connection.execute(verdicts.mixed_times(MONDAY)).fetchall()
    counted = zones.mixed({table: event_lines.rows(spark, table, *rows)})
    assert sorted(by_sql) == sorted(map(tuple, counted.collect()))
    assert len(by_sql) > 5
    assert verdicts.TIMES == zones.TIMES
    assert not connection.execute(verdicts.mixed_times(later(-1))).fetchall()


def verdicts_table(table: str) -> str:
    return "judged_" + table.removeprefix("raw_")


EFFECTS = {"rejected": "", "nulled": "passed over", "in_doubt": "withdrawn in doubt"}


def counts_of_the_night(day: dt.date) -> dict[tuple[str, str, str], int]:
    """Rows by table, rule and effect, as the night's metrics have them."""
    rows = Warehouse.open().read("metrics", day=day, stage="events").to_pylist()
    counted: dict[tuple[str, str, str], int] = {}
    for row in rows:
        plain = {"accepted": "accepted", "duplicates": "duplicate", "superseded": "superseded"}
        # An inspection judges lines, and not who has withdrawn.
        plain["withheld"] = "accepted"
        if row["metric"] in plain and row["slice"] == "all":
            key = (row["name"], plain[row["metric"]], "")
            counted[key] = counted.get(key, 0) + int(row["value"])
        elif row["metric"] in EFFECTS and row["slice"].startswith("rule="):
            key = (row["name"], row["slice"].removeprefix("rule="), EFFECTS[row["metric"]])
            counted[key] = int(row["value"])
    return {key: n for key, n in counted.items() if n}


def counts_of_the_inspection(landing: str, day: dt.date) -> dict[tuple[str, str, str], int]:
    report = inspection.inspect(landing, day, thresholds=thresholds(lateness_days=3))
    assert not [row for row in report["files"] if row["problem"]]
    return {(row["table"], row["rule"], row["effect"]): row["n"] for row in report["rules"]}


def test_inspection_counts_what_a_night_counts_on_a_planted_world(
    place: Path, spark: SparkSession
) -> None:
    landing = str(place / "landing")
    planted = world.generate(world.Config(users=60, videos=120, days=5), np.random.default_rng(11))
    write.write_world(landing, planted.parts)
    day = max(planted.truth.delivered)
    validate_events.main(day=dt.date.fromisoformat(str(day)))
    counted = counts_of_the_inspection(landing, dt.date.fromisoformat(str(day)))
    assert counted == counts_of_the_night(dt.date.fromisoformat(str(day)))
    assert len(counted) > 15


@pytest.mark.realdata
def test_inspection_counts_what_a_night_counts_on_real_logs(
    place: Path, spark: SparkSession, real_data: Path
) -> None:
    landing, day = str(place / "landing"), dt.date(2022, 4, 28)
    kuairand.import_files(real_data / "kuairand_pure", landing)
    validate_events.main(day=day)
    assert counts_of_the_inspection(landing, day) == counts_of_the_night(day)
