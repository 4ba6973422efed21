"""What a fit knows: nothing after its cut."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from microrec.candidates.lists import ladder
from microrec.core import knowledge
from microrec.core.fits import horizon
from microrec.errors import MicrorecError
from tests.worlds.candidates import DAY, MIDNIGHT, edges, users, videos, worlds


def test_knowledge_seen_and_positive_follow_the_fit() -> None:
    rows = edges([("train", 0, 0, 1), ("validation", 0, 1, 0), ("holdout", 0, 2, 1)])
    catalogue = videos([True] * 4)
    trial = knowledge.knowledge(
        rows, catalogue, n_users=1, fit="trial", until=horizon(DAY, "trial")
    )
    final = knowledge.knowledge(
        rows, catalogue, n_users=1, fit="final", until=horizon(DAY, "final")
    )
    assert trial.seen.toarray().tolist() == [[1, 1, 0, 0]]
    assert trial.positives.toarray().tolist() == [[1, 0, 0, 0]]
    assert final.seen.toarray().tolist() == [[1, 1, 1, 0]]
    assert final.history.tolist() == [2]


def test_knowledge_pair_in_two_splits_counts_once() -> None:
    rows = edges([("train", 0, 0, 1), ("validation", 0, 0, 2)])
    known = knowledge.knowledge(
        rows, videos([True]), n_users=1, fit="trial", until=horizon(DAY, "trial")
    )
    assert known.positives.toarray().tolist() == [[1]]
    assert known.history.tolist() == [1]


def test_knowledge_recent_weighs_positives_by_their_last_viewing() -> None:
    rows = edges(
        [("train", 0, 0, 1), ("train", 0, 1, 1), ("train", 0, 2, 0), ("validation", 0, 0, 0)]
    )
    at = pa.array([10, 20, 40, 30], pa.int64()).cast(pa.timestamp("us", "UTC"))
    rows = rows.append_column("last_at", at)
    given = {"n_users": 2, "fit": "trial", "until": horizon(DAY, "trial")}
    known = knowledge.knowledge(rows, videos([True] * 3), **given)
    assert known.recent(0.5).toarray().tolist() == [[1, 0.5, 0], [0, 0, 0]]
    assert known.recent(1).toarray().tolist() == known.positives.toarray().tolist()
    without = knowledge.knowledge(rows.drop_columns("last_at"), videos([True] * 3), **given)
    assert without.recent(1).toarray().tolist() == known.positives.toarray().tolist()
    with pytest.raises(MicrorecError, match="order of the viewings"):
        without.recent(0.5)


def test_knowledge_video_published_later_than_the_horizon_is_not_eligible() -> None:
    """Watched before (0), on the day (1) or not at all (2): each fit excludes what is not published by its horizon."""
    hour, day = dt.timedelta(hours=1), dt.timedelta(days=1)
    rows = edges([("train", 0, 0, 1), ("holdout", 0, 1, 1)])
    cases = {
        MIDNIGHT - hour: (True, True),
        MIDNIGHT: (False, True),
        MIDNIGHT + day - hour: (False, True),
        MIDNIGHT + day: (False, False),
        MIDNIGHT + 90 * day: (False, False),
        None: (True, True),
    }
    for published, expected in cases.items():
        catalogue = videos([True, True, True, False], [published] * 4)
        for fit, eligible in zip(("trial", "final"), expected, strict=True):
            known = knowledge.knowledge(
                rows, catalogue, n_users=1, fit=fit, until=horizon(DAY, fit)
            )
            assert known.eligible.tolist() == [eligible] * 3 + [False], (published, fit)


@given(worlds())
def test_knowledge_trial_is_unmoved_by_the_holdout(world: dict) -> None:
    """Whatever happens on D, what the trial knows and the ladder it fills from stay the same."""
    before = world["edges"].filter(pa.compute.not_equal(world["edges"]["split"], "holdout"))
    config = ladder.Config(trend_length=3, fresh_length=2)
    seen = []
    for rows in (world["edges"], before):
        known = knowledge.knowledge(
            rows,
            world["videos"],
            n_users=world["n_users"],
            fit="trial",
            until=horizon(DAY, "trial"),
        )
        rungs = ladder.rungs(
            rows,
            world["videos"],
            known=known,
            fit="trial",
            until=horizon(DAY, "trial"),
            config=config,
        )
        seen.append(
            (known.seen.toarray(), known.positives.toarray(), known.eligible, *rungs.values())
        )
    for one, other in zip(*seen, strict=True):
        np.testing.assert_array_equal(one, other)


def test_knowledge_dislike_undoes_earlier_positives() -> None:
    rows = [
        ("train", 0, 0, 1), ("validation", 0, 0, 0),  # liked, then disliked
        ("holdout", 0, 1, 0), ("train", 0, 1, 2),  # the same, on the last day
        ("train", 1, 0, 0), ("validation", 1, 0, 1),  # disliked, then liked
        ("train", 1, 1, 1), ("validation", 1, 1, 1),  # liked, disliked and liked again
    ]  # fmt: skip
    watched = edges(rows, undone=(1, 2, 4, 7))
    given = {"n_users": 2}
    final = knowledge.knowledge(
        watched, videos([True] * 2), **given, fit="final", until=horizon(DAY, "final")
    )
    trial = knowledge.knowledge(
        watched, videos([True] * 2), **given, fit="trial", until=horizon(DAY, "trial")
    )
    assert final.positives.toarray().tolist() == [[0, 0], [1, 1]]
    assert trial.positives.toarray().tolist() == [[0, 1], [1, 1]], "the last day is not known"
    assert final.seen.toarray().tolist() == [[1, 1], [1, 1]]


def test_knowledge_own_videos_are_barred_not_seen() -> None:
    catalogue = videos([True] * 3).append_column("author_id", pa.array(["u1", None, "u9"]))
    given = {"n_users": 2, "fit": "final", "until": horizon(DAY, "final")}
    own = knowledge.uploads(users(2).take([1, 0]), catalogue)
    assert own.to_pylist() == [{"user_idx": 1, "video_idx": 0}]
    known = knowledge.knowledge(edges([("train", 0, 2, 1)]), catalogue, **given, never=own)
    assert known.seen.toarray().tolist() == [[0, 0, 1], [0, 0, 0]]
    assert known.barred.toarray().tolist() == [[0, 0, 1], [1, 0, 0]]
    scores = np.zeros((2, 3))
    known.mask(scores, np.arange(2))
    assert np.isfinite(scores).tolist() == [[True, True, False], [False, True, True]]


def test_served_suppressed_users_are_left_out() -> None:
    suppressed = pa.table({"user_id": ["u1", "stranger"]})
    assert knowledge.served(users(3), suppressed).tolist() == [0, 2]


def test_viewers_of_a_split_are_its_users() -> None:
    rows = edges(
        [("holdout", 2, 0, 0), ("holdout", 1, 0, 1), ("train", 0, 0, 1), ("holdout", 1, 1, 0)]
    )
    assert knowledge.viewers(rows, "holdout").tolist() == [1, 2]


def test_every_index_keeps_the_rows_of_others_in_their_places() -> None:
    whole = users(4)
    erased = whole.take(pa.array([3, 0, 2]))
    padded = knowledge.every_index(erased)
    assert padded["user_idx"].to_pylist() == [0, 1, 2, 3]
    assert padded["user_id"].to_pylist() == ["u0", None, "u2", "u3"]
    nobody = pa.table({"user_id": pa.array([], pa.string())})
    assert knowledge.served(padded, nobody).tolist() == [0, 2, 3]
    assert knowledge.every_index(whole).equals(whole)
