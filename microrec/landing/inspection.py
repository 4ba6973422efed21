"""What a night would make of a landing day, in seconds and without Spark.

Lines are read as `lines` reads them into a database in a scratch folder (DuckDB spills there beyond `MEMORY`), and
judged by `verdicts`. Of viewings the day and the `lateness_days` before it are read, of other tables all days up to it.
"""

import datetime as dt
import tempfile
from pathlib import Path
from typing import Any

import duckdb

from microrec.config.settings import settings
from microrec.errors import LandingError
from microrec.landing import lines, verdicts, verify, zone
from microrec.landing.verdicts import Thresholds
from microrec.landing.verify import Limits
from microrec.tables import contract

MEMORY = "1GB"
EXAMPLES = 3
"""Refused lines that are shown of a rule."""
JUDGED = {table: "judged_" + table.removeprefix("raw_") for table in zone.TABLES}
UNIT_FACTORS = {"seconds": 1e-3, "microseconds": 1e3, "nanoseconds": 1e6}
TYPICAL_MS = (1_500.0, 1_500_000.0)
"""Median lengths of videos that are believed: 1.5 s to 25 minutes."""


class Inspection:
    """The lines of a landing day, judged."""

    def __init__(
        self, landing: str, day: dt.date, thresholds: Thresholds, limits: Limits, scratch: Path
    ) -> None:
        """Read and judge.

        Args:
            landing: root of the landing zone.
            day: UTC day of arrival.
            thresholds: of the recipe.
            limits: of the recipe.
            scratch: an empty folder.
        """
        self._day = day
        self._landing = landing
        self._thresholds = thresholds
        self._limits = limits
        self._connection = duckdb.connect(
            str(scratch / "inspect.duckdb"),
            config={
                "memory_limit": MEMORY,
                "temp_directory": str(scratch),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute(verdicts.macros(thresholds.timezone))
        self.files = [row for table in zone.TABLES for row in self._load(table)]
        self._connection.execute(verdicts.videos())
        self._connection.execute(verdicts.interactions(thresholds))
        self._connection.execute(verdicts.features("raw_video_features"))
        self._connection.execute(verdicts.features("raw_clip_features"))
        self._connection.execute(verdicts.requests())

    def _load(self, table: str) -> list[dict[str, Any]]:
        promised = contract.load(settings().schemas, table)
        lines.create(self._connection, promised)
        back = self._thresholds.lateness_days if table == "raw_interactions" else None
        rows = []
        for day in zone.days(self._landing, table):
            if day > self._day or (back is not None and (self._day - day).days > back):
                continue
            for path in zone.files(self._landing, table, day):
                rows.append(self._load_file(promised, path, day))
        return rows

    def _load_file(self, promised: contract.Contract, path: Path, day: dt.date) -> dict[str, Any]:
        row: dict[str, Any] = {
            "table": promised.table, "day": day, "file": path.name, "kind": zone.kind_of(path),
            "bytes": path.stat().st_size, "rows": 0, "unknown_columns": [], "problem": "",
        }  # fmt: skip
        try:
            strict = promised.table in self._limits.refuse_unknown_columns
            findings = verify.verify_file(path, self._limits, all_keys=strict)
            row["unknown_columns"] = lines.unknown_columns(promised, path, findings)
            if strict and row["unknown_columns"]:
                raise LandingError(
                    f"{zone.short_path(path)}: unknown column(s) {', '.join(row['unknown_columns'])}, which"
                    " refuse_unknown_columns in [landing] of the recipe refuses"
                )
            row["rows"] = lines.load(self._connection, promised, path, self._limits)
        except LandingError as error:
            row["problem"] = str(error)
        return row

    def counts(self) -> list[dict[str, Any]]:
        """Count rows by table and rule as the night's metrics do, with the first refused lines of each rule.

        Returns:
            One row per (table, rule, effect), rule `accepted` for rows that no rule refuses; viewings of the day alone.
            Effect: `withdrawn in doubt`, a part of the refused rows; `passed over`, values of rows that stay; else
            nothing.
        """
        rows = []
        for table in zone.TABLES:
            where = f"WHERE day = DATE '{self._day}'" if table == "raw_interactions" else ""
            counted = self._rows(
                f"SELECT coalesce(rule, 'accepted') AS rule, count(*) AS n FROM {JUDGED[table]} {where}"
                " GROUP BY ALL ORDER BY n DESC, rule"
            )
            for row in counted:
                fine = row["rule"] in ("accepted", verdicts.SUPERSEDED)
                examples = [] if fine else self._examples(JUDGED[table], where, row["rule"])
                rows.append({"table": table, **row, "effect": "", "examples": examples})
            rows += self._effects(table, where or "WHERE true")
        return rows

    def _effects(self, table: str, where: str) -> list[dict[str, Any]]:
        """Values that were passed over, and refused rows that withdraw something."""
        judged = JUDGED[table]
        columns = {row["column_name"] for row in self._rows(f"DESCRIBE {judged}")}
        stays = f"(rule IS NULL OR rule = '{verdicts.SUPERSEDED}')"
        queries = {
            "nulled": ("passed over", f"(SELECT unnest(nulled) AS rule FROM {judged} {where} AND {stays})"),
            "withdrawn": ("withdrawn in doubt", f"(SELECT rule FROM {judged} {where} AND len(withdrawn) > 0)"),
        }  # fmt: skip
        rows = []
        for column, (effect, source) in queries.items():
            if column in columns:
                counted = (
                    f"SELECT rule, count(*) AS n FROM {source} GROUP BY ALL ORDER BY n DESC, rule"
                )
                rows += [
                    {"table": table, **row, "effect": effect, "examples": []}
                    for row in self._rows(counted)
                ]
        return rows

    def _examples(self, judged: str, where: str, rule: str) -> list[dict[str, Any]]:
        day = where or "WHERE true"
        return self._rows(
            f"SELECT file, number, line FROM {judged} {day} AND rule = '{rule}' ORDER BY file, number LIMIT {EXAMPLES}"
        )

    def days(self) -> list[dict[str, Any]]:
        """Count accepted viewings by the day on which they began, with the first and last instant."""
        return self._rows(
            "SELECT event_day(started_at) AS day, count(*) AS viewings, min(started_at) AS first, max(started_at) AS"
            f" last FROM judged_interactions WHERE day = DATE '{self._day}' AND rule IS NULL GROUP BY ALL ORDER BY ALL"
        )

    def units(self) -> dict[str, Any]:
        """Return medians of watch time and length, the quiet hours, and what looks wrong about them."""
        (row,) = self._rows(
            "SELECT median(watch_ms) FILTER (watch_ms > 0) AS watch_ms, median(duration_ms) AS duration_ms,"
            " median(watch_ms / duration_ms) AS watch_ratio, count(*) FILTER (watch_ms IS NULL) AS without_watch,"
            f" count(*) AS n FROM judged_interactions WHERE day = DATE '{self._day}' AND rule IS NULL"
        )
        hours = self._rows(
            "SELECT hour(started_at) AS hour, count(*) AS n FROM judged_interactions WHERE rule IS NULL AND"
            f" day = DATE '{self._day}' GROUP BY ALL ORDER BY ALL"
        )
        quiet = sorted(hours, key=lambda hour: hour["n"])[:6]
        guesses = [g for g in (_unit(name, row[name]) for name in ("watch_ms", "duration_ms")) if g]
        return row | {"quiet_hours_utc": sorted(h["hour"] for h in quiet), "guesses": guesses}

    def zones(self) -> list[dict[str, Any]]:
        """Count times with and without an offset, a row per file of the day that has both."""
        return self._rows(verdicts.mixed_times(self._day))

    def meeting(self) -> list[dict[str, Any]]:
        """Count ids of one table that another does not know, with the first of them."""
        catalogue = "(SELECT video_id FROM states)"
        users = "(SELECT user_id FROM judged_interactions WHERE rule IS NULL)"
        pairs = {
            "viewings of videos that raw_videos does not have": ("judged_interactions", "video_id", catalogue),
            "vectors of videos that raw_videos does not have": ("judged_video_features", "video_id", catalogue),
            "clip vectors of videos that raw_videos does not have": ("judged_clip_features", "video_id", catalogue),
            "requests of users without a viewing in these days": ("judged_privacy_requests", "user_id", users),
        }  # fmt: skip
        rows = []
        for what, (table, column, known) in pairs.items():
            (row,) = self._rows(
                f"SELECT count(*) AS rows, count(DISTINCT {column}) AS ids, min({column}) AS example FROM {table}"
                f" WHERE {column} IS NOT NULL AND {column} NOT IN (SELECT * FROM {known} AS t)"
            )
            rows.append({"what": what, **row})
        return rows

    def coverage(self) -> list[dict[str, Any]]:
        """Return by modality and encoder version how many videos have a vector, of those that may be listed."""
        return self._rows(
            "SELECT modality, encoder_version, count(DISTINCT video_id) AS videos, any_value(len(vector)) AS length,"
            " videos / greatest((SELECT count(*) FROM judged_videos WHERE rule IS NULL), 1) AS share"
            " FROM judged_video_features WHERE (rule IS NULL OR rule = 'other_encoder') AND video_id IN (SELECT"
            " video_id FROM judged_videos WHERE rule IS NULL) GROUP BY ALL ORDER BY modality, videos DESC"
        )

    def strength(self) -> dict[str, Any]:
        """Return what a night has to learn from: videos, users and viewings of the days read, and positives."""
        label = verdicts.feedback(self._thresholds)
        (row,) = self._rows(
            f"SELECT count(*) AS viewings, count(DISTINCT user_id) AS users, count(DISTINCT video_id) AS videos,"
            f" count(*) FILTER ({label} = 'positive') AS positives, count(DISTINCT event_day(started_at)) AS days,"
            f" count(DISTINCT user_id) FILTER ({label} = 'positive' AND event_day(started_at) = DATE '{self._day}')"
            " AS users_with_a_positive_on_the_day FROM judged_interactions WHERE rule IS NULL"
        )
        (videos,) = self._rows(
            "SELECT count(*) AS catalogue, count(*) FILTER (eligible) AS eligible FROM judged_videos WHERE rule IS NULL"
        )
        return row | videos

    def _rows(self, query: str) -> list[dict[str, Any]]:
        result = self._connection.execute(query)
        names = [column[0] for column in result.description or []]
        return [dict(zip(names, values, strict=True)) for values in result.fetchall()]

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def inspect(
    landing: str, day: dt.date, *, thresholds: Thresholds, limits: Limits = verify.DEFAULT
) -> dict[str, Any]:
    """Return what a night would make of a landing day.

    Args:
        landing: root of the landing zone.
        day: UTC day of arrival.
        thresholds: of the recipe.
        limits: of the recipe.

    Returns:
        `day`, `files`, `rules`, `event_days`, `units`, `zones`, `ids`, `coverage`, `totals`, `arrival_days` and
        `lacking`; see `Inspection`.
    """
    with tempfile.TemporaryDirectory(prefix="microrec-inspect-") as scratch:
        inspection = Inspection(landing, day, thresholds, limits, Path(scratch))
        try:
            report = {
                "day": day,
                "files": inspection.files,
                "rules": inspection.counts(),
                "event_days": inspection.days(),
                "units": inspection.units(),
                "zones": inspection.zones(),
                "ids": inspection.meeting(),
                "coverage": inspection.coverage(),
                "totals": inspection.strength(),
                "arrival_days": [d for d in zone.days(landing, "raw_interactions") if d <= day],
            }
        finally:
            inspection.close()
    return report | {"lacking": lacking(report, thresholds)}


def lacking(report: dict[str, Any], thresholds: Thresholds) -> list[str]:
    """Return what a night of the default recipe would miss or stop at, and what to do about it.

    Args:
        report: of `inspect`.
        thresholds: of the recipe.
    """
    totals, units = report["totals"], report["units"]
    findings = [f"{row['file']}: {row['problem']}" for row in report["files"] if row["problem"]]
    arrived = {row["table"] for row in report["files"] if row["day"] == report["day"]}
    if "raw_interactions" not in arrived:
        findings.append(f"no raw_interactions arrived on {report['day']}: the night stops")
    if not totals["catalogue"]:
        findings.append(
            "no row of raw_videos is accepted: every viewing is refused (unknown_video) and the night stops"
        )
    refused = {
        row["rule"]: row["n"]
        for row in report["rules"]
        if row["table"] == "raw_interactions" and not row["effect"]
    }
    n_missing = refused.get("missing_watch", 0) + refused.get("no_duration", 0)
    if thresholds.unmeasured == "refuse" and 2 * n_missing >= sum(refused.values()) > 0:
        findings.append(
            f"{n_missing} viewing(s) have no watch time or length and are refused: if the log has none, set"
            ' [events] unmeasured = "neutral" (reactions decide) or "positive" (every play counts) in the recipe'
        )
    if units["n"] and units["without_watch"] == units["n"]:
        findings.append(
            "no viewing has a watch time: no clip edges, leave clip_interest out of the recipe"
        )
    if not report["coverage"]:
        findings.append(
            "no vectors: content, preference_gcn and mmgcn have those that a night makes of captions; without captions"
            " leave content out of [night] models, the others have no modality"
        )
    if len(report["arrival_days"]) < 3:
        findings.append(
            f"viewings arrived on {len(report['arrival_days'])} day(s) up to this: a night needs three at least (to"
            " train, to validate, and the day itself)"
        )
    if not totals["users_with_a_positive_on_the_day"]:
        findings.append(
            "nobody has a positive viewing on the day: nothing can be measured, the night stops"
        )
    zones = [_mixed_times(row, thresholds.timezone) for row in report["zones"]]
    return [*findings, *zones, *units["guesses"]]


def _mixed_times(row: dict[str, Any], timezone: str) -> str:
    """Say that a file mixes times with and without an offset."""
    return (
        f"{row['file']} mixes {row['n_zoned']} time(s) with an offset and {row['n_zoneless']} without, which are read"
        f" as {timezone}: deliver each with its offset"
    )


def _unit(name: str, median: float | None) -> str | None:
    """Say in which unit lengths seem to be counted, if their median is no length of a micro-video."""
    low, high = TYPICAL_MS
    if median is None or low / 10 <= median <= high:
        return None
    fits = [unit for unit, factor in UNIT_FACTORS.items() if low <= median / factor <= high]
    guess = f"; as {fits[0]} it would be" if fits else ""
    value = f" {median / UNIT_FACTORS[fits[0]] / 1e3:.1f} s" if fits else ""
    return f"{name}: its median is {median:g} ms{guess}{value}"
