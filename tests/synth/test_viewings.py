"""What a model has to find in a planted world is there, and is measurable."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from microrec.synth import viewings, world
from microrec.synth.population import draw_users, draw_videos

CONFIG = world.Config(dirt_per_kind=0, late_share=0.0, duplicate_share=0.0)


@pytest.fixture(scope="module")
def planted() -> world.World:
    return world.generate(CONFIG, np.random.default_rng(11))


@pytest.fixture(scope="module")
def log(planted: world.World) -> pd.DataFrame:
    """All viewings with their day, cluster and whether the user likes that cluster."""
    days = list(planted.truth.delivered)
    frames = [planted.rows("raw_interactions", day).to_pandas().assign(day=day) for day in days]
    rows = pd.concat(frames, ignore_index=True)
    rows["cluster"] = rows["video_id"].map(planted.truth.video_cluster)
    interest = planted.truth.user_interest
    pairs = zip(rows["user_id"], rows["cluster"], strict=True)
    rows["liked_cluster"] = [interest[user][cluster] > 0 for user, cluster in pairs]
    rows["completed"] = rows["watch_ms"] >= rows["duration_ms"]
    return rows


def test_viewings_sizes_equal_config(log: pd.DataFrame) -> None:
    per_day = log.groupby(["user_id", "day"]).size()
    assert 12_000 < len(log) < 20_000
    assert per_day.max() == CONFIG.max_viewings
    assert log["user_id"].nunique() > 395
    assert 0.36 < log["completed"].mean() < 0.46


def test_users_have_one_to_three_clusters(planted: world.World) -> None:
    interest = np.array(list(planted.truth.user_interest.values()))
    assert set((interest > 0).sum(axis=1)) == {1, 2, 3}
    np.testing.assert_allclose(interest.sum(axis=1), 1)


def test_users_watch_mostly_within_their_clusters(log: pd.DataFrame) -> None:
    assert 0.7 < log["liked_cluster"].mean() < 0.95


def test_interest_raises_completion_at_every_length(log: pd.DataFrame) -> None:
    bucket = pd.qcut(log["duration_ms"], 4, labels=False)
    rate = log.groupby([bucket, "liked_cluster"])["completed"].mean().unstack()
    assert (rate[True] > rate[False] + 0.1).all()


def test_short_videos_are_finished_more_often(log: pd.DataFrame) -> None:
    bucket = pd.qcut(log["duration_ms"], 4, labels=False)
    rate = log.groupby([bucket, "liked_cluster"])["completed"].mean().unstack()
    assert (rate.diff().dropna() < 0).all(axis=None)
    assert rate.loc[0, True] > rate.loc[3, True] + 0.4


def test_popularity_and_activity_are_skewed(log: pd.DataFrame) -> None:
    views = log["video_id"].value_counts()
    assert views.head(80).sum() > 0.3 * len(log)  # a tenth of the videos
    active = log["user_id"].value_counts()
    assert active.head(40).sum() > 0.25 * len(log)  # a tenth of the users
    assert active.max() > 6 * active.median()


def test_exits_happen_at_the_weak_clip(log: pd.DataFrame, planted: world.World) -> None:
    left = log[~log["completed"] & log["liked_cluster"]]
    clip = 4 * left["watch_ms"] // left["duration_ms"]
    weak = left["video_id"].map(planted.truth.weak_clip)
    for number in range(4):
        assert (clip[weak == number] == number).mean() > 0.5
        assert (clip[weak != number] == number).mean() < 0.35


def test_viewings_of_a_user_do_not_overlap(log: pd.DataFrame) -> None:
    ordered = log.sort_values(["user_id", "started_at"])
    end = ordered["started_at"] + pd.to_timedelta(ordered["watch_ms"], unit="ms")
    same = ordered["user_id"].eq(ordered["user_id"].shift(-1))
    assert (end < ordered["started_at"].shift(-1))[same].all()
    assert (log["started_at"].dt.date == log["day"]).all()


def test_session_is_contiguous_on_one_surface(log: pd.DataFrame) -> None:
    sessions = log.groupby("session_id")
    assert (sessions["surface"].nunique() == 1).all()
    assert (sessions["user_id"].nunique() == 1).all()
    assert (sessions["day"].nunique() == 1).all()
    assert 2 < len(log) / len(sessions) < 6
    ordered = log.sort_values(["user_id", "started_at"])["session_id"]
    assert (ordered != ordered.shift()).sum() == len(sessions)


def test_old_client_lines_have_no_event_id(log: pd.DataFrame) -> None:
    absent = log["event_id"].isna()
    assert (absent == (log["surface"] == viewings.NO_EVENT_ID_SURFACE)).all()
    assert 0.02 < absent.mean() < 0.1
    assert log["event_id"].dropna().is_unique


def test_signals_agree_with_the_viewing(log: pd.DataFrame) -> None:
    for signal in ("liked", "shared", "followed", "commented"):
        assert log.loc[log[signal], "completed"].all()
    assert not log.loc[log["disliked"], "completed"].any()
    assert not log.loc[log["disliked"], "liked_cluster"].any()
    counts = log[["liked", "shared", "followed", "commented", "disliked"]].sum()
    assert (counts > 20).all()
    assert counts["liked"] > counts["shared"]


def test_viewings_are_mostly_of_unseen_videos(log: pd.DataFrame) -> None:
    again = log.duplicated(["user_id", "video_id"])
    assert 0.01 < again.mean() < 0.08


def test_users_some_join_later(log: pd.DataFrame) -> None:
    first = log.groupby("user_id")["day"].min()
    late = (first > CONFIG.first_day + dt.timedelta(days=1)).mean()
    assert 0.05 < late < 0.2


def test_fresh_videos_are_watched_on_their_first_day(
    log: pd.DataFrame, planted: world.World
) -> None:
    for day in list(planted.truth.delivered)[1:]:
        fresh = planted.rows("raw_videos", day)["video_id"].to_pylist()
        assert log.loc[log["day"] == day, "video_id"].isin(fresh).any()


def recall_at_20(scores: np.ndarray, seen: np.ndarray, truth: np.ndarray) -> float:
    """Mean share of a user's unseen positives of the last day among the best 20 unseen videos."""
    top = np.argsort(-np.where(seen, -np.inf, scores), axis=1, kind="stable")[:, :20]
    hits = np.take_along_axis(truth, top, axis=1).sum(axis=1)
    has = truth.any(axis=1)
    return float((hits[has] / truth[has].sum(axis=1)).mean())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_personal_model_clearly_beats_popularity(seed: int) -> None:
    """Cosine video neighbours find more than twice what popularity finds, which finds something."""
    rng = np.random.default_rng(seed)
    users, videos = draw_users(CONFIG, rng), draw_videos(CONFIG, rng)
    audience = viewings.Audience(CONFIG, users, videos)
    shape = (CONFIG.users, CONFIG.videos)
    seen, liked, truth = (np.zeros(shape, dtype=bool) for _ in range(3))
    for day in range(CONFIG.days):
        watched = audience.watch(day, users.joined <= day, rng)
        pairs = watched.user[watched.completed], watched.video[watched.completed]
        if day == CONFIG.days - 1:
            truth[pairs] = True
        else:
            seen[watched.user, watched.video] = True
            liked[pairs] = True
    truth &= ~seen
    norm = np.sqrt(liked.sum(axis=0)) + 1e-9
    columns = liked / norm
    similarity = columns.T @ columns
    np.fill_diagonal(similarity, 0)
    popularity = recall_at_20(np.tile(liked.sum(axis=0), (CONFIG.users, 1)), seen, truth)
    personal = recall_at_20(liked @ similarity, seen, truth)
    chance = 20 / CONFIG.videos
    assert popularity > 2 * chance
    assert personal > 2 * popularity
