"""Videos and their vectors as of a day: what the producers delivered last, broken rows left out.

Every `judge_*` gives each delivered row a `rule`: why it is left out, or null where it stands.
`superseded` (a later delivery stands instead) is no fault. An optional value that cannot be read is null, and its rule
in `nulled`: it takes no row along.

Who cannot read a withdrawal errs on its side: a video is not eligible from the day of a row whose `eligible` cannot be
read, or of a line of JSON that is none and names the video, unless it says `true`. Such a row stays refused, and a
later row that can be read stands instead.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from microrec.core.days import UTC
from microrec.events.parse import (
    first_rule,
    flag,
    identifier,
    instant_or_date,
    length_ms,
    lost,
    nulled,
    read_rules,
    text,
    too_long,
    unreadable,
    whole_number,
    withdrawn_in_doubt,
    written,
)

SUPERSEDED = "superseded"
OTHER_ENCODER, WRONG_LENGTH = "other_encoder", "wrong_length"
MODALITY = r"\A[a-z][a-z0-9_]{0,63}\z"
"""It becomes the name of a folder. `$` would let a line break pass."""


def judge_videos(delivered: DataFrame, timezone: str = UTC) -> DataFrame:
    """Type the rows of `raw_videos` and find how long each of them was the video's state.

    Of several rows of one day one stands: not eligible goes before eligible, so that a withdrawal is not lost; the rest
    is decided by content.

    Args:
        delivered: `readers.read_through`, one row per delivered line.
        timezone: whose local time a `published_at` without an offset is.

    Returns:
        One row per delivered line, typed, with `since` (its landing day), `until` (the next day on which the video was
        delivered, null for the state in force), `rule`: those of `parse.read_rules`, missing_video, long_value,
        bad_eligible, superseded; null where it stands, `nulled`: bad_author, bad_published_at, bad_duration, bad_tags,
        and `withdrawn`: ids of videos that a refused row may have been about to withdraw.
    """
    order = ["published_at", "duration_ms", "author_id", "caption", "tags"]
    same_day = Window.partitionBy("rule", "video_id", "since").orderBy(
        "eligible", *[F.desc_nulls_last(name) for name in order]
    )
    # `since` is a date, and so is the frame's distance: any later day.
    later = (
        Window.partitionBy("rule", "video_id")
        .orderBy(F.unix_date("since"))
        .rangeBetween(1, Window.unboundedFollowing)
    )
    ranked = _typed_videos(delivered, timezone).select(
        "*", F.row_number().over(same_day).alias("place"), F.min("since").over(later).alias("until")
    )
    past = (F.col("place") > 1) | F.col("until").isNotNull()
    superseded = F.when(past, F.lit(SUPERSEDED))
    return ranked.withColumn("rule", F.coalesce("rule", superseded))


def states(judged_videos: DataFrame) -> DataFrame:
    """Return the states of each video over time.

    Args:
        judged_videos: `judge_videos`, one row per delivered line.

    Returns:
        One row per (video, day on which its state changed): in force from `since` to before `until`. The length is the
        last one that was delivered and could be read.
    """
    sound = F.col("rule").isNull() | (F.col("rule") == SUPERSEDED)
    chosen = judged_videos.where(sound & (F.col("place") == 1))
    so_far = Window.partitionBy("video_id").orderBy("since")
    length = F.last("duration_ms", ignorenulls=True).over(so_far)
    return chosen.select("video_id", "since", "until", length.alias("duration_ms"))


def videos(judged_videos: DataFrame) -> DataFrame:
    """Return the rows of `videos`: one row per video, its last delivered state; not eligible where that is in doubt."""
    doubts = (
        judged_videos.select("since", F.explode("withdrawn").alias("video_id"))
        .groupBy("video_id")
        .agg(F.max("since").alias("doubted_on"))
    )
    stated = judged_videos.where(F.col("rule").isNull()).join(doubts, on="video_id", how="left")
    is_doubted = F.coalesce(F.col("doubted_on") >= F.col("since"), F.lit(False))
    return stated.select(
        "video_id",
        "author_id",
        "published_at",
        "duration_ms",
        "caption",
        "tags",
        (F.col("eligible") & ~is_doubted).alias("eligible"),
    )


def judge_video_features(delivered: DataFrame) -> DataFrame:
    """Type the rows of `raw_video_features` and choose the last whole vector of each video and modality.

    Args:
        delivered: `readers.read_through`, one row per delivered line.

    Returns:
        One row per delivered line, typed, with `rule`: those of `parse.read_rules`, missing_video, long_value,
        bad_modality (not a plain lower-case word), missing_encoder, missing_vector, not_finite, other_encoder (not the
        version for which most videos have a vector of the modality; of two, the one that arrived last), wrong_length
        (not the length of that version's vectors), superseded; null where it stands.
    """
    modality = F.lower(F.trim("modality"))
    typed = delivered.select(
        "day",
        "file",
        "line",
        identifier(F.col("video_id")).alias("video_id"),
        modality.alias("modality"),
        text(F.col("encoder_version")).alias("encoder_version"),
        "vector",
        _first(
            *read_rules("video_id"),
            ("missing_video", identifier(F.col("video_id")).isNull()),
            ("long_value", too_long("video_id", "encoder_version")),
            ("bad_modality", ~F.coalesce(modality.rlike(MODALITY), F.lit(False))),
            ("missing_encoder", text(F.col("encoder_version")).isNull()),
            *_vector_rules(),
        ).alias("rule"),
    )
    return _last_whole(typed, ["modality", "video_id"], group="modality", ties=["encoder_version"])


def video_features(judged: DataFrame) -> DataFrame:
    """Return the rows of `video_features`: one row per (modality, video)."""
    return judged.where(F.col("rule").isNull()).select(
        "modality", "video_id", "encoder_version", "vector"
    )


def encoders(judged: DataFrame) -> DataFrame:
    """Return the encoder of each modality, and how many videos are on it.

    Args:
        judged: `judge_video_features`, one row per delivered line.

    Returns:
        One row per modality: encoder_version, n_videos with a vector of it, n_all with a whole vector of any.
    """
    whole = F.col("rule").isNull() | F.col("rule").isin(SUPERSEDED, OTHER_ENCODER, WRONG_LENGTH)
    stands = F.col("rule").isNull()
    return (
        judged.where(whole)
        .groupBy("modality")
        .agg(
            F.max(F.when(stands, F.col("encoder_version"))).alias("encoder_version"),
            F.count_distinct(F.when(stands, F.col("video_id"))).alias("n_videos"),
            F.count_distinct("video_id").alias("n_all"),
        )
    )


def judge_clip_features(delivered: DataFrame) -> DataFrame:
    """Type the rows of `raw_clip_features` and choose the last whole vector of each clip.

    Args:
        delivered: `readers.read_through`, one row per delivered line.

    Returns:
        One row per delivered line, typed, with `rule`: those of `parse.read_rules`, missing_video, long_value,
        bad_clip (number or bounds missing, unreadable, negative or empty), missing_vector, not_finite,
        wrong_length, superseded; null where it stands.
    """
    numbers = delivered.select(
        "day",
        "file",
        "line",
        first_rule(read_rules("video_id")).alias("unread_by"),
        identifier(F.col("video_id")).alias("video_id"),
        whole_number(F.col("clip_no")).try_cast("int").alias("clip_no"),
        whole_number(F.col("start_ms")).alias("start_ms"),
        whole_number(F.col("end_ms")).alias("end_ms"),
        "vector",
        F.lit("clip").alias("kind"),
        F.lit("").alias("encoder_version"),
    )
    numbered = (F.col("clip_no") >= 0) & (F.col("start_ms") >= 0)
    sound = numbered & (F.col("end_ms") > F.col("start_ms"))
    rule = _first(
        ("missing_video", F.col("video_id").isNull()),
        ("long_value", too_long("video_id")),
        ("bad_clip", ~F.coalesce(sound, F.lit(False))),
        *_vector_rules(),
    )
    typed = numbers.withColumn("rule", F.coalesce("unread_by", rule))
    return _last_whole(typed, ["video_id", "clip_no"], group="kind", ties=["start_ms", "end_ms"])


def clip_features(judged: DataFrame) -> DataFrame:
    """Return the rows of `clip_features`: one row per (video, clip)."""
    return judged.where(F.col("rule").isNull()).select(
        "video_id", "clip_no", "start_ms", "end_ms", "vector"
    )


def _typed_videos(delivered: DataFrame, timezone: str) -> DataFrame:
    published = instant_or_date(F.col("published_at"), timezone)
    length = length_ms(F.col("duration_ms"))
    eligible = written("eligible")
    says_true = F.forall(eligible, lambda word: F.coalesce(flag(word), F.lit(False)))
    typed = delivered.select(
        F.col("day").alias("since"),
        "file",
        "line",
        identifier(F.col("video_id")).alias("video_id"),
        F.when(~lost("author_id"), identifier(F.col("author_id"))).alias("author_id"),
        published.alias("published_at"),
        F.when(length > 0, length).alias("duration_ms"),
        F.col("caption"),
        F.array_sort(F.array_compact("tags")).alias("tags"),
        flag(F.col("eligible")).alias("eligible"),
        _first(
            *read_rules("video_id"),
            ("missing_video", identifier(F.col("video_id")).isNull()),
            ("long_value", too_long("video_id")),
            ("bad_eligible", flag(F.col("eligible")).isNull()),
        ).alias("rule"),
        nulled(
            ("bad_author", lost("author_id")),
            ("bad_published_at", unreadable(F.col("published_at"), published)),
            ("bad_duration", unreadable(F.col("duration_ms"), length) | (length < 0)),
            ("bad_tags", F.array_contains("unread", "tags")),
        ).alias("nulled"),
        "malformed",
        says_true.alias("says_true"),
    )
    withdrawn = withdrawn_in_doubt("video_id", F.col("says_true"), ["bad_eligible"])
    return typed.withColumn("withdrawn", withdrawn).drop("malformed", "says_true")


def _first(*rules: tuple[str, Column]) -> Column:
    return F.coalesce(*[F.when(refuses, F.lit(name)) for name, refuses in rules])


def _vector_rules() -> list[tuple[str, Column]]:
    infinite = F.lit(float("inf"))
    broken = F.exists("vector", lambda x: x.isNull() | F.isnan(x) | (F.abs(x) == infinite))
    return [
        ("missing_vector", F.col("vector").isNull() | (F.size("vector") == 0)),
        ("not_finite", broken),
    ]


def _last_whole(typed: DataFrame, key: list[str], *, group: str, ties: list[str]) -> DataFrame:
    """Refuse vectors of all but one space of each group, then all but the last of each key.

    A space is an encoder version and a length: vectors of two are never compared. That of most keys is chosen; of
    equally frequent ones that which arrived last. Broken and odd vectors go first, so that they do not hide an older
    whole one.
    """
    measured = typed.withColumn("length", F.size("vector"))
    # Conditions inside the aggregates: as a filter the rules would be copied into every reader of the files.
    stands = F.col("rule").isNull()
    counted = measured.groupBy(group, "encoder_version", "length").agg(
        F.count_distinct(F.when(stands, F.struct(*key))).alias("n"),
        F.max(F.when(stands, F.col("day"))).alias("newest"),
    )
    best = F.max_by(
        F.struct("encoder_version", "length"),
        F.struct("n", "newest", "encoder_version", "length"),
    )
    chosen = counted.groupBy(group).agg(best.alias("chosen"))
    placed = measured.join(F.broadcast(chosen), on=group, how="left")
    odd = F.when(
        F.col("encoder_version") != F.col("chosen.encoder_version"), F.lit(OTHER_ENCODER)
    ).when(F.col("length") != F.col("chosen.length"), F.lit(WRONG_LENGTH))
    ruled = placed.withColumn("rule", F.coalesce("rule", odd)).drop("chosen", "length")
    newest = [F.desc("day"), *[F.desc(name) for name in [*ties, "vector"]]]
    last = Window.partitionBy("rule", *key).orderBy(*newest)
    ranked = ruled.withColumn("place", F.row_number().over(last))
    superseded = F.when(F.col("place") > 1, F.lit(SUPERSEDED))
    return ranked.withColumn("rule", F.coalesce("rule", superseded))


JUDGES = {
    "raw_videos": judge_videos,
    "raw_video_features": judge_video_features,
    "raw_clip_features": judge_clip_features,
}
"""Who judges which raw table."""

AS_OF_DAY = {
    "videos": videos,
    "video_features": video_features,
    "clip_features": clip_features,
}
"""Rows of a table of what is known by the end of a day, from the judged rows of its raw table."""
