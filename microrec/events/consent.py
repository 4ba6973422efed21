"""Privacy requests line by line, and the viewings they withhold; an unclear request counts in the user's favour."""

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

WITHHELD = "withheld"
"""Rule of a viewing that its user has withdrawn: it is counted, and stored nowhere."""


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


def withhold(judged: DataFrame, periods: DataFrame) -> DataFrame:
    """Refuse the viewings of people who have withdrawn, by the rule `withheld`.

    Args:
        judged: `rules.judge`, one row per delivered line.
        periods: one row per user: user_id, and `periods`, an array of (since, until), where null is no bound.

    Returns:
        The same rows; a line that no other rule refuses and that began in a period of its user has the rule.
    """
    at = F.col("started_at")
    is_withheld = F.exists(
        "periods",
        lambda period: (
            (period["since"].isNull() | (period["since"] <= at))
            & (period["until"].isNull() | (at < period["until"]))
        ),
    )
    rule = F.when(F.col("rule").isNull() & F.coalesce(is_withheld, F.lit(False)), F.lit(WITHHELD))
    joined = judged.join(F.broadcast(periods), on="user_id", how="left")
    ruled = joined.withColumn("rule", F.coalesce("rule", rule))
    return ruled.select(*judged.columns)


JUDGES = {"raw_privacy_requests": judge_requests}
"""Who judges which raw table."""
