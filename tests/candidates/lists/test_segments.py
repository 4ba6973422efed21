"""Lists of surfaces and tags: weights, whose they are, and the order, against plain loops."""

import datetime as dt
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.candidates.lists import fill, ladder, segments
from microrec.candidates.lists.segments import Config, Members, Segment
from microrec.candidates.ranking import closed_form
from microrec.core import knowledge
from microrec.core.fits import horizon
from tests.worlds.candidates import DAY, candidates, edges, shaped_worlds, videos

TODAY = DAY.toordinal() - dt.date(1970, 1, 1).toordinal() + 1
COUNTS = pa.schema(
    [
        ("user_idx", pa.int32()),
        ("video_idx", pa.int32()),
        ("surface", pa.string()),
        ("shown_on", pa.date32()),
        ("n_positive", pa.int32()),
    ]
)


def counts(rows: list[tuple[int, int, str, int, int]]) -> pa.Table:
    """Rows of `exposure_counts`: user, video, surface, days before the night's end, positive viewings."""
    columns = list(zip(*rows, strict=True)) or [()] * len(COUNTS)
    columns[3] = tuple(TODAY - age for age in columns[3])
    numbers = COUNTS.set(3, pa.field("shown_on", pa.int32()))
    return (
        pa.table([pa.array(values) for values in columns], names=COUNTS.names)
        .cast(numbers)
        .cast(COUNTS)
    )


def everyones(order: list[int]) -> ladder.Ladder:
    return ladder.Ladder(np.array(order, np.int64), np.full(len(order), 2, np.int16))


LIKED = [
    (0, 1, "search", 1, 1),
    (1, 1, "search", 1, 3),
    (0, 2, "search", 3, 1),
    (2, 3, "search", 5, 1),
    (2, 4, "search", 1, 0),
    (2, 5, "search", 1, 1),
    (0, 0, "", 1, 1),
    *((user, 0, "feed", 1, 1) for user in range(9)),
    *((user, 1, "feed", 1, 1) for user in range(9)),
    (3, 1, "rare", 2, 1),
]


def test_surfaces_weigh_recent_likes_more_and_have_k_videos_or_no_list() -> None:
    found = segments.of_surfaces(
        counts(LIKED), everyones([0, 3, 2, 1, 4]), n_videos=6, today=TODAY, k=3, config=Config()
    )
    # "feed" is the main surface, "rare" has one video; video 5 may not be shown, 4 was not liked.
    (search,) = found
    assert search.name == "surface=search"
    assert search.video.tolist() == [1, 2, 3]
    assert search.weight.tolist() == [2.0, 0.5, 0.25]
    wide = Config(main_share=1.0, surfaces=1)
    order = everyones([1, 0])
    (feed,) = segments.of_surfaces(counts(LIKED), order, n_videos=6, today=TODAY, k=1, config=wide)
    assert (feed.name, feed.video.tolist(), feed.weight.tolist()) == (
        "surface=feed",
        [1, 0],
        [9.0, 9.0],
    )


@given(st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_surfaces_any_row_order_equal_a_loop(random: Any, seed: int) -> None:
    generator = np.random.default_rng(seed)
    n_videos, k = 10, int(generator.integers(1, 4))
    rows = [
        (int(user), int(video), random.choice(["", "a", "b", "c"]), random.randint(1, 60), random.randint(0, 2))
        for user, video in generator.integers(0, (5, n_videos), (int(generator.integers(0, 60)), 2))
    ]  # fmt: skip
    rows = list({row[:4]: row for row in rows}.values())
    order = generator.permutation(n_videos)[: int(generator.integers(k, n_videos))].tolist()
    config = Config(surfaces=2, main_share=float(generator.choice([0.3, 0.5, 1.0])))
    given = {"n_videos": n_videos, "today": TODAY, "k": k, "config": config}
    found = segments.of_surfaces(counts(rows), everyones(order), **given)
    random.shuffle(rows)
    again = segments.of_surfaces(counts(rows), everyones(order), **given)
    liked = [row for row in rows if row[4]]
    n_liked = Counter(row[2] for row in liked)
    right = {}
    for surface in sorted(n_liked.keys() - {""}, key=lambda name: (-n_liked[name], name)):
        weight: dict[int, float] = {}
        for _, video, where, age, _ in liked:
            if where == surface and video in order:
                weight[video] = weight.get(video, 0.0) + 0.5 ** min(age // 2, 20)
        if (
            len(weight) >= k
            and n_liked[surface] <= config.main_share * len(liked)
            and len(right) < 2
        ):
            by_weight = sorted(weight, key=lambda video: (-weight[video], order.index(video)))
            right[f"surface={surface}"] = [(video, weight[video]) for video in by_weight]
    for each in (found, again):
        assert {
            s.name: list(zip(s.video.tolist(), s.weight.tolist(), strict=True)) for s in each
        } == right


def test_tags_are_the_list_of_everybody_among_their_videos() -> None:
    tags = [["a", "b"], ["a"], ["a", "a"], ["b", "a"], None, ["b", "c"]]
    tagged = pa.table({"video_idx": range(6), "tags": pa.array(tags, pa.list_(pa.string()))})
    likers = np.array([9, 0, 99, 7, 0, 5])
    order = ladder.Ladder(np.array([3, 0, 5, 1, 4]), np.array([0, 2, 2, 1, 3], np.int16))

    def of(k: int, most: int) -> list[Segment]:
        return segments.of_tags(tagged, order, likers=likers, k=k, config=Config(tags=most))

    # Video 2 may not be shown, and "c" has one video alone.
    rows = segments.everyones_lists(of(3, 9), order, 3).to_pydict()
    assert rows["segment"] == ["tag=a"] * 3 + ["tag=b"] * 3
    assert rows["video_idx"] == [3, 0, 1, 3, 0, 5]
    assert rows["rank"] == [1, 2, 3] * 2
    assert rows["source"] == ["trend", "popular", "fresh", "trend", "popular", "popular"]
    assert rows["score"] == [-1, -2, -3] * 2
    # The videos of "b" have 21 positive viewers, those of "a" 16.
    assert [segment.name for segment in of(3, 1)] == ["tag=b"]
    assert of(4, 9) == []
    assert segments.everyones_lists([], order, 3).num_rows == 0


@given(st.integers(0, 2**32 - 1))
def test_tags_any_row_order_are_whole_and_of_the_tag(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n_videos, k = 12, int(generator.integers(1, 5))
    order = generator.permutation(n_videos)[: int(generator.integers(1, n_videos))]
    tags = [
        generator.choice(["x", "y", "z"], generator.integers(3)).tolist() for _ in range(n_videos)
    ]
    tagged = pa.table({"video_idx": range(n_videos), "tags": pa.array(tags, pa.list_(pa.string()))})
    shuffled = tagged.take(generator.permutation(n_videos))
    likers = generator.integers(0, 9, n_videos)
    right = {
        f"tag={tag}": [video for video in order.tolist() if tag in tags[video]] for tag in "xyz"
    }
    for table in (tagged, shuffled):
        found = segments.of_tags(
            table, everyones(order.tolist()), likers=likers, k=k, config=Config(tags=9)
        )
        mine = {segment.name: segment.video.tolist() for segment in found}
        assert mine == {name: videos for name, videos in right.items() if len(videos) >= k}


def known(
    rows: list[tuple[str, int, int, int]], *, n_users: int, n_videos: int
) -> knowledge.Knowledge:
    return knowledge.knowledge(
        edges(rows),
        videos([True] * n_videos),
        n_users=n_users,
        fit="final",
        until=horizon(DAY, "final"),
    )


def test_members_were_shown_something_on_the_surface_or_like_the_tag_most() -> None:
    of = [
        Segment("surface=search", np.array([0]), np.ones(1)),
        Segment("tag=a", np.array([0, 1, 2]), np.ones(3)),
        Segment("tag=b", np.array([2, 3]), np.ones(2)),
    ]
    likes = [("train", 0, 0, 1), ("train", 0, 2, 1), ("train", 1, 2, 1), ("train", 2, 3, 0)]
    met = counts([(2, 5, "search", 1, 0), (2, 4, "search", 1, 1), (0, 1, "feed", 1, 1)])
    given = {"known": known(likes, n_users=4, n_videos=6)}
    one = segments.members(of, met, config=Config(), **given)
    # User 1 likes one video that has both tags: the first by name counts. User 3 likes nothing.
    assert list(zip(one.user.tolist(), one.segment.tolist(), strict=True)) == [
        (0, 1),
        (1, 1),
        (2, 0),
    ]
    both = segments.members(of, met, config=Config(tags_of_user=2), **given)
    assert list(zip(both.user.tolist(), both.segment.tolist(), strict=True)) == [
        (0, 1), (0, 2), (1, 1), (1, 2), (2, 0),
    ]  # fmt: skip
    none = segments.members(of, met, config=Config(tags_of_user=0), **given)
    assert none.user.tolist() == [2]
    assert both.among(np.array([1, 3])).segment.tolist() == [1, 2]


def test_select_hand_computed() -> None:
    search = Segment("surface=search", np.array([4, 1, 2, 3]), np.array([4.0, 2.0, 2.0, 1.0]))
    of = Members([search], np.array([0, 1]), np.array([0, 0]))
    shaping = fill.Shaping(
        closed_form.Config(weights={"content": closed_form.Weight(warm=1, cold=1)}),
        reasons={"content": "similar"},
    )
    rows = segments.select(
        {"content": candidates({0: [3, 5, 2], 1: [1]})},
        members=of,
        known=known([("train", 1, 4, 1), ("train", 1, 2, 1)], n_users=2, n_videos=6),
        k=3,
        shaping=shaping,
        offset=1.0,
    ).to_pylist()
    # User 0: 3 has place 1, 2 place 3, others 4: 4/5, 2/5 (1), 2/4 (2), 1/2 (3); 2 and 3 in the segment's order.
    assert [(row["user_idx"], row["rank"], row["video_idx"], row["score"]) for row in rows] == [
        (0, 1, 4, pytest.approx(0.8)), (0, 2, 2, 0.5), (0, 3, 3, 0.5),
    ]  # fmt: skip
    assert [(row["source"], row["reason"], row["source_rank"]) for row in rows] == [
        ("segment", "popular here", None), ("content", "similar", 3), ("content", "similar", 1),
    ]  # fmt: skip
    # User 1 has seen two of the four: no list of three, so none.


@given(shaped_worlds(), st.integers(0, 2**32 - 1))
def test_select_equals_a_loop_over_the_users_own_order(world: dict[str, Any], seed: int) -> None:
    generator = np.random.default_rng(seed)
    what_is_known = knowledge.knowledge(
        world["edges"],
        world["videos"],
        n_users=world["n_users"],
        fit="final",
        until=horizon(DAY, "final"),
    )
    n_videos, k = what_is_known.n_videos, int(generator.integers(1, 4))
    eligible = generator.permutation(np.flatnonzero(what_is_known.eligible))
    of = []
    for name in ("surface=a", "tag=b"):
        video = eligible[: int(generator.integers(0, len(eligible) + 1))]
        weight = -np.sort(-generator.integers(1, 4, len(video)).astype(np.float64))
        of.append(Segment(name, video, weight))
    pairs = np.array(
        [
            (user, at)
            for user in range(world["n_users"])
            for at in (0, 1)
            if generator.random() < 0.7
        ]
    )
    pairs = pairs.reshape(-1, 2)
    plain = fill.Shaping(world["shaping"].weights, learned=world["shaping"].learned)
    given = {"known": what_is_known, "k": k, "shaping": plain, "offset": 2.0}
    rows = segments.select(world["sources"], members=Members(of, pairs[:, 0], pairs[:, 1]), **given)
    whole = fill.select(
        world["sources"], users=np.arange(world["n_users"]), known=what_is_known,
        ladder=ladder.Ladder(eligible, np.zeros(len(eligible), np.int16)), k=n_videos, shaping=plain,
    ).to_pylist()  # fmt: skip
    listed: dict[tuple[int, str], list[tuple[int, int, float, str]]] = {}
    for row in rows.to_pylist():
        listed.setdefault((row["user_idx"], row["segment"]), []).append(
            (row["rank"], row["video_idx"], row["score"], row["source"])
        )
    right = {}
    for user, at in pairs.tolist():
        own = [
            row for row in whole if row["user_idx"] == user and row["source"] in world["sources"]
        ]
        place = {row["video_idx"]: row["rank"] for row in own}
        barred = set(what_is_known.barred[user].indices.tolist())
        scores = [
            (weight / (2.0 + place.get(video, len(own) + 1)), video)
            for video, weight in zip(of[at].video.tolist(), of[at].weight.tolist(), strict=True)
            if video not in barred
        ]
        best = sorted(scores, key=lambda pair: -pair[0])[:k]
        if len(best) == k:
            source_of = {row["video_idx"]: row["source"] for row in own}
            right[user, of[at].name] = [
                (rank, video, float(np.float32(score)), source_of.get(video, "segment"))
                for rank, (score, video) in enumerate(best, start=1)
            ]
    mine = {key: [row[:3] for row in rows] for key, rows in listed.items()}
    assert mine == {key: [row[:3] for row in rows] for key, rows in right.items()}
    for key, rows in listed.items():
        for row, other in zip(rows, right[key], strict=True):
            # What is proposed may have no place in the learned order.
            assert row[3] == other[3] or other[3] == "segment", (row, other)
