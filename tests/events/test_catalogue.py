"""Videos and vectors as of a day: the last sound delivery, whatever came after or beside it."""

from collections import Counter
from typing import Any

import pytest
from pyspark.sql import SparkSession

from microrec.events import catalogue
from tests.worlds.event_lines import MONDAY, later, rows

pytestmark = pytest.mark.spark


def verdicts(frame: Any) -> Counter[str | None]:
    return Counter(row.rule for row in frame.select("rule").collect())


def test_videos_last_delivered_state_wins(spark: SparkSession) -> None:
    delivered = rows(
        spark,
        "raw_videos",
        {"duration_ms": "1", "day": later(-2)},
        {"duration_ms": "3"},
        {"duration_ms": "2", "day": later(-1)},
        {"video_id": "007", "tags": ["b", "a"], "duration_ms": "0", "published_at": "2022-04-10"},
    )
    judged = catalogue.judge_videos(delivered)
    found = {row.video_id: row for row in catalogue.videos(judged).collect()}
    assert set(found) == {"v1", "007"}
    assert found["v1"].duration_ms == 3
    assert found["007"].duration_ms is None
    assert found["007"].tags == ["a", "b"]
    assert found["007"].published_at.isoformat().startswith("2022-04-10T00:00")
    assert found["007"].eligible is True
    assert verdicts(judged) == {None: 2, "superseded": 2}


def test_states_hold_until_the_next(spark: SparkSession) -> None:
    delivered = rows(
        spark,
        "raw_videos",
        {"day": later(-3), "duration_ms": "1"},
        {"day": later(-1), "duration_ms": "2"},
        {"day": later(-1), "duration_ms": "2"},
        {"day": MONDAY, "duration_ms": "nonsense"},
    )
    found = catalogue.states(catalogue.judge_videos(delivered)).collect()
    assert sorted((row.since, row.until, row.duration_ms) for row in found) == [
        (later(-3), later(-1), 1),
        (later(-1), MONDAY, 2),
        (MONDAY, None, 2),
    ]


def test_states_of_the_same_day_withdrawal_wins(spark: SparkSession) -> None:
    for order in ([0, 1], [1, 0]):
        changes = [{"eligible": "true", "duration_ms": "9"}, {"eligible": "0", "duration_ms": "1"}]
        delivered = rows(spark, "raw_videos", *[changes[n] for n in order])
        (found,) = catalogue.videos(catalogue.judge_videos(delivered)).collect()
        assert (found.eligible, found.duration_ms) == (False, 1)


def test_videos_broken_rows_are_refused_and_the_older_state_stays(
    spark: SparkSession,
) -> None:
    delivered = rows(
        spark,
        "raw_videos",
        {"day": later(-1), "caption": "old"},
        {"malformed": True},
        {"video_id": ""},
        {"video_id": "v" * 513},
        {"eligible": None},
        {"eligible": "perhaps"},
    )
    judged = catalogue.judge_videos(delivered)
    assert verdicts(judged) == {
        None: 1,
        "malformed_line": 1,
        "missing_video": 1,
        "long_value": 1,
        "bad_eligible": 2,
    }
    (found,) = catalogue.videos(judged).collect()
    assert (found.caption, found.eligible) == ("old", False), "whether it is withdrawn is in doubt"


def test_videos_optional_values_that_cannot_be_read_are_null_and_named(
    spark: SparkSession,
) -> None:
    changes: list[tuple[str, dict[str, Any]]] = [
        ("bad_author", {"author_id": "a" * 513}),
        ("bad_author", {"author_id": "a\x00"}),
        ("bad_author", {"author_id": None, "unread": ["author_id"]}),
        ("bad_published_at", {"published_at": "once"}),
        ("bad_published_at", {"published_at": "9999-12-31T23:59:59-14:00"}),
        ("bad_duration", {"duration_ms": "-1"}),
        ("bad_duration", {"duration_ms": "long"}),
        ("bad_duration", {"duration_ms": str(2**63 - 1)}),
        ("bad_tags", {"tags": None, "unread": ["tags"]}),
    ]
    delivered = [change | {"video_id": f"v{n}"} for n, (_, change) in enumerate(changes)]
    judged = catalogue.judge_videos(rows(spark, "raw_videos", *delivered))
    by_video = {row.video_id: row for row in judged.collect()}
    for n, (rule, change) in enumerate(changes):
        row = by_video[f"v{n}"]
        (column,) = set(change) - {"unread"}
        assert (row.rule, row.nulled, row[column], row.eligible) == (None, [rule], None, True)


def test_vectors_broken_are_refused_and_others_stay(spark: SparkSession) -> None:
    nan, inf = float("nan"), float("inf")
    delivered = rows(
        spark,
        "raw_video_features",
        {"video_id": "whole"},
        {"video_id": "zero", "vector": [0.0, 0.0]},
        *[
            {"video_id": "b", "vector": v}
            for v in ([nan, 1.0], [inf, 1.0], [-inf, 1.0], [None, 1.0])
        ],
        {"video_id": "b", "vector": None},
        {"video_id": "b", "vector": []},
        {"video_id": "b", "vector": [1.0, 2.0, 3.0]},
        {"video_id": "b", "modality": "Visual Arts"},
        {"video_id": "b", "modality": None},
        {"video_id": "b", "modality": "visual\n"},
        {"video_id": "b", "modality": "../visual"},
        {"video_id": "b", "modality": "v" * 65},
        {"video_id": "b" * 513},
        {"video_id": "b", "encoder_version": " "},
        {"video_id": None},
        {"malformed": True},
        {"video_id": "whole", "modality": "acoustic", "vector": [1.0, 2.0, 3.0]},
    )
    judged = catalogue.judge_video_features(delivered)
    assert verdicts(judged) == {
        None: 3,
        "not_finite": 4,
        "missing_vector": 2,
        "wrong_length": 1,
        "bad_modality": 5,
        "long_value": 1,
        "missing_encoder": 1,
        "missing_video": 1,
        "malformed_line": 1,
    }
    found = {(row.video_id, row.modality): row.vector for row in
             catalogue.video_features(judged).collect()}  # fmt: skip
    assert found == {
        ("whole", "visual"): [1.0, 2.0],
        ("zero", "visual"): [0.0, 0.0],
        ("whole", "acoustic"): [1.0, 2.0, 3.0],
    }


def test_vectors_last_complete_one_stands(spark: SparkSession) -> None:
    delivered = rows(
        spark,
        "raw_video_features",
        {"vector": [1.0, 1.0], "day": later(-2)},
        {"vector": [2.0, 2.0], "day": later(-1)},
        {"vector": [3.0], "day": MONDAY},
        {"vector": [float("nan"), 1.0], "day": MONDAY},
        {"video_id": "v2"},
        {"video_id": "v3"},
    )
    judged = catalogue.judge_video_features(delivered)
    found = {row.video_id: row.vector for row in catalogue.video_features(judged).collect()}
    assert found["v1"] == [2.0, 2.0]
    assert verdicts(judged) == {None: 3, "superseded": 1, "wrong_length": 1, "not_finite": 1}


@pytest.mark.parametrize("n_dims", [2, 4])
@pytest.mark.parametrize(("n_new", "version"), [(2, "9"), (3, "2"), (4, "2")])
def test_vectors_are_of_the_encoder_that_most_videos_have_and_at_a_tie_of_the_newer(
    spark: SparkSession, n_new: int, version: str, n_dims: int
) -> None:
    old = [{"video_id": f"v{n}", "day": later(-1), "encoder_version": "9"} for n in range(3)]
    new = [
        {"video_id": f"v{n}", "vector": [0.5] * n_dims, "encoder_version": "2"}
        for n in range(n_new)
    ]
    judged = catalogue.judge_video_features(rows(spark, "raw_video_features", *old, *new))
    found = {
        row.video_id: row.encoder_version for row in catalogue.video_features(judged).collect()
    }
    n_on = 3 if version == "9" else n_new
    assert found == {f"v{n}": version for n in range(n_on)}
    assert verdicts(judged) == {None: n_on, "other_encoder": 3 + n_new - n_on}
    (counted,) = catalogue.encoders(judged).collect()
    assert tuple(counted) == ("visual", version, n_on, max(3, n_new))


@pytest.mark.parametrize("n_whole", [1, 2])
def test_vectors_that_are_refused_do_not_choose_the_encoder(
    spark: SparkSession, n_whole: int
) -> None:
    """Neither by their number nor, at a tie of whole ones, by the day on which they arrived."""
    broken = [float("nan"), 1.0]
    judged = catalogue.judge_video_features(
        rows(
            spark,
            "raw_video_features",
            *[{"video_id": f"v{n}", "encoder_version": "1"} for n in range(n_whole)],
            {"video_id": "v8", "encoder_version": "2", "day": later(-1)},
            {"video_id": "v9", "encoder_version": "2", "vector": broken, "day": later(1)},
            {"video_id": "v7", "encoder_version": "2", "vector": broken, "day": later(1)},
        )
    )
    stands = {row.encoder_version for row in catalogue.video_features(judged).collect()}
    assert stands == {"1"}
    assert verdicts(judged) == {None: n_whole, "other_encoder": 1, "not_finite": 2}


def test_vectors_of_other_modalities_have_encoders_of_their_own(spark: SparkSession) -> None:
    delivered = [
        {"video_id": "v1"},
        {"video_id": "v1", "modality": "acoustic", "encoder_version": "2"},
        {"video_id": "v2", "modality": "acoustic", "encoder_version": "1", "day": later(-1)},
        {"video_id": "v2", "modality": "acoustic", "encoder_version": "1", "day": later(-2)},
    ]
    judged = catalogue.judge_video_features(rows(spark, "raw_video_features", *delivered))
    found = {
        (row.modality, row.video_id, row.encoder_version)
        for row in catalogue.video_features(judged).collect()
    }
    assert found == {("visual", "v1", "1"), ("acoustic", "v1", "2")}
    assert verdicts(judged) == {None: 2, "other_encoder": 2}


def test_clip_features_cases_equal_expected(spark: SparkSession) -> None:
    delivered = rows(
        spark,
        "raw_clip_features",
        {"clip_no": "0", "vector": [1.0, 1.0], "day": later(-1)},
        {"clip_no": "0", "vector": [2.0, 2.0]},
        {"clip_no": "1", "start_ms": "2500", "end_ms": "5000"},
        {"clip_no": "2", "start_ms": "5000", "end_ms": "5000"},
        {"clip_no": "-1"},
        {"clip_no": "first"},
        {"clip_no": None},
        {"clip_no": "3", "start_ms": "-1"},
        {"clip_no": "4", "vector": [1.0]},
        {"clip_no": "5", "vector": [float("inf"), 1.0]},
    )
    judged = catalogue.judge_clip_features(delivered)
    found = [tuple(row) for row in catalogue.clip_features(judged).collect()]
    assert sorted(found) == [
        ("v1", 0, 0, 2500, [2.0, 2.0]),
        ("v1", 1, 2500, 5000, [1.0, 2.0]),
    ]
    assert verdicts(judged) == {
        None: 2,
        "superseded": 1,
        "bad_clip": 5,
        "wrong_length": 1,
        "not_finite": 1,
    }


def test_catalogue_nothing_delivered_gives_no_rows(spark: SparkSession) -> None:
    nothing = rows(spark, "raw_clip_features", {}).limit(0)
    assert catalogue.clip_features(catalogue.judge_clip_features(nothing)).collect() == []
