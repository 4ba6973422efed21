"""Users whose viewings may not be used as of the end of a day; an unclear request counts in the user's favour."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from microrec.core.days import UTC
from microrec.core.request_kinds import SEPARATORS, SPELLINGS
from microrec.events.parse import (
    end_of,
    first_rule,
    identifier,
    instant,
    read_rules,
    too_long,
    withdrawn_in_doubt,
    written,
)


def judge_requests(delivered: DataFrame, timezone: str = UTC) -> DataFrame:
    """Type the rows of `raw_privacy_requests`.

    A request was made at the latest when it was delivered: a later time (a wrong clock), or an unreadable one, becomes
    the end of the landing day, except that an opt-in with an unreadable time does not count. A request of a kind that
    cannot be read stays refused, and counts as an opt-out until a later opt-in; so does a line of JSON that is none and
    names a user, unless it says opt_in.

    Args:
        delivered: `readers.read_through`, one row per delivered line.
        timezone: whose local time a time without an offset is, and whose days the landing days are.

    Returns:
        One row per delivered line, typed, with `rule`: those of `parse.read_rules`, missing_user, long_value,
        unknown_kind, bad_timestamp; null where it stands, and `withdrawn`: ids of users for whom a refused row counts
        as an opt-out.
    """
    kind = _kind_of(F.col("kind"))
    made = instant(F.col("requested_at"), timezone)
    delivered_by = end_of(F.col("day"), timezone) - F.expr("INTERVAL 1 MICROSECOND")
    rules = [
        *read_rules("user_id"),
        ("missing_user", identifier(F.col("user_id")).isNull()),
        ("long_value", too_long("user_id")),
        ("unknown_kind", ~F.coalesce(kind.isin(*SPELLINGS), F.lit(False))),
        ("bad_timestamp", (kind == "opt_in") & made.isNull()),
    ]
    kinds = written("kind")
    says_opt_in = F.forall(kinds, lambda word: _kind_of(word) == "opt_in")
    typed = delivered.select(
        "day",
        "file",
        "line",
        identifier(F.col("user_id")).alias("user_id"),
        kind.alias("kind"),
        F.least(F.when(~F.col("malformed"), made), delivered_by).alias("requested_at"),
        first_rule(rules).alias("rule"),
        "malformed",
    )
    withdrawn = withdrawn_in_doubt("user_id", says_opt_in, ["unknown_kind"])
    return typed.withColumn("withdrawn", withdrawn).drop("malformed")


def _kind_of(text: Column) -> Column:
    """The kind that a text spells; the text as it is compared where it spells none."""
    plain = F.regexp_replace(F.lower(F.trim(text)), SEPARATORS, "_")
    kind = plain
    for name, spellings in SPELLINGS.items():
        kind = F.when(plain.isin(*spellings), F.lit(name)).otherwise(kind)
    return kind


def suppressed_users(judged_requests: DataFrame) -> DataFrame:
    """Return the rows of `suppressed_users`: one row per user who opted out or was erased, with the request in force.

    An erasure stands for ever, from its first request. Otherwise the last request decides; of two at the same instant
    the opt-out. A request in doubt is an opt-out.
    """
    stated = judged_requests.where(F.col("rule").isNull()).select("user_id", "kind", "requested_at")
    in_doubt = judged_requests.select(
        F.explode("withdrawn").alias("user_id"), F.lit("opt_out").alias("kind"), "requested_at"
    )
    erased = F.min(F.when(F.col("kind") == "erase", F.col("requested_at")))
    last = F.max_by("kind", F.struct("requested_at", F.col("kind") == "opt_out"))
    per_user = (
        stated.unionByName(in_doubt)
        .groupBy("user_id")
        .agg(erased.alias("erased_at"), last.alias("last"), F.max("requested_at").alias("last_at"))
    )
    is_erased = F.col("erased_at").isNotNull()
    return per_user.where(is_erased | (F.col("last") == "opt_out")).select(
        "user_id",
        F.when(is_erased, F.lit("erase")).otherwise(F.col("last")).alias("kind"),
        F.coalesce("erased_at", "last_at").alias("requested_at"),
    )


JUDGES = {"raw_privacy_requests": judge_requests}
"""Who judges which raw table."""
