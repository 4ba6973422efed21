"""Generated worlds with a known answer, as the tables a model's graph is built from.

`checkerboard` is benfred/implicit's: even users like all even videos but one, odd users all odd
ones but one; the one that is withheld is the only right first recommendation. `viewings` has a
clock: what was shown to whom and when, and all a night's tables as of their cuts.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Matrix = npt.NDArray[np.float32]
PARTS = ("train", "validation", "holdout")
DAY_US = 86_400_000_000
NIGHT = dt.date(2026, 1, 8)
"""D of `viewings`, the day that is held out."""
D = (NIGHT - dt.date(1970, 1, 1)).days
N_DAYS = 7
"""Days of `viewings`, the last of them D."""
CUTS = range(D - 3, D + 2)
"""Days whose starts are the cuts of `viewings`; the last is the end of D."""
INSTANT = pa.timestamp("us", "UTC")
STEP = [("video_idx", pa.int32()), ("at", INSTANT)]
SEQUENCES = pa.schema(
    [
        ("cut_at", INSTANT),
        ("user_idx", pa.int32()),
        ("history", pa.list_(pa.struct(STEP))),
        ("future", pa.list_(pa.struct([*STEP, ("weight", pa.float64())]))),
        ("future_from", pa.string()),
        ("last_at", INSTANT),
    ]
)
EXPOSURES = pa.schema(
    [
        ("cut_at", INSTANT),
        ("event_id", pa.string()),
        ("user_idx", pa.int32()),
        ("video_idx", pa.int32()),
        ("started_at", INSTANT),
        ("feedback", pa.string()),
        ("watch_ms", pa.int64()),
        ("duration_ms", pa.int64()),
    ]
)


def checkerboard(n: int = 20) -> dict[str, pa.Table]:
    """n users, n videos, everything in the part train, two modalities that tell even from odd."""
    index = np.arange(n)
    likes = (index[:, None] + index) % 2 == 0
    likes[index, [withheld(user, n) for user in index]] = False
    return tables({"train": likes}, vectors=parity_vectors(n))


def withheld(user: int, n: int = 20) -> int:
    """The video the checkerboard keeps from a user."""
    return user % 2 + 2 * ((user // 2 + 3) % (n // 2))


def parity_vectors(n: int) -> dict[str, Matrix]:
    """Visual vectors for all videos, acoustic ones for all but every fifth (a row of NaN)."""
    rng = np.random.default_rng(5)
    found = {}
    for modality, dim in (("visual", 6), ("acoustic", 4)):
        vectors = 0.1 * rng.standard_normal((n, dim))
        vectors[np.arange(n), np.arange(n) % 2] += 1
        found[modality] = vectors.astype(np.float32)
    found["acoustic"][::5] = np.nan
    return found


def clusters(seed: int, *, n_users: int = 60, n_videos: int = 90) -> dict[str, pa.Table]:
    """Three interests: users like a third of their cluster's videos and little else; some vectors
    are missing, one user and the last two videos have no edge, a sixth of the edges is later."""
    rng = np.random.default_rng(seed)
    own = rng.integers(3, size=n_users)[:, None] == rng.integers(3, size=n_videos)
    likes = rng.random((n_users, n_videos)) < np.where(own, 0.35, 0.02)
    likes[n_users // 2] = False
    likes[:, -2:] = False
    later = rng.random(likes.shape) < 1 / 6
    cluster_vectors = rng.standard_normal((3, 5))[rng.integers(3, size=n_videos)]
    vectors = {
        name: (cluster_vectors + 0.2 * rng.standard_normal((n_videos, 5))).astype(np.float32)
        for name in ("visual", "textual")
    }
    vectors["textual"][rng.random(n_videos) < 0.3] = np.nan
    return tables({"train": likes & ~later, "validation": likes & later}, vectors=vectors)


class Event(NamedTuple):
    """Somebody was shown a video."""

    at: int
    user: int
    video: int
    liked: bool


class Tastes(NamedTuple):
    """What is behind `viewings`: the taste, 0 to 2, of each user and of each video."""

    of_user: npt.NDArray[np.int64]
    of_video: npt.NDArray[np.int64]


def tastes(seed: int, *, n_users: int = 60, n_videos: int = 90) -> Tastes:
    """Those of `viewings` of the same seed and sizes; videos 2i and 2i + 1 are of one taste."""
    rng = np.random.default_rng(seed)
    pairs = rng.integers(3, size=(n_videos + 1) // 2)
    return Tastes(rng.integers(3, size=n_users), np.repeat(pairs, 2)[:n_videos])


def viewings(
    seed: int, *, n_users: int = 60, n_videos: int = 90, n_shown: int = 6, in_pairs: bool = False
) -> dict[str, pa.Table]:
    """Three tastes and a clock: all tables of night D, `sequences` and `exposures` among them.

    Each day a user is shown `n_shown` videos, half of them of the user's taste, and likes nine of
    ten of these and one of ten of the others. With `in_pairs` who likes video 2i is shown 2i + 1
    next, if need be the next day, and likes it; odd videos are shown in no other way.

    User n_users // 2 is never shown anything, the last user for the first time on D. Of the videos
    the last two are never shown, the two before them for the first time on D. Some vectors are
    missing; every eighth author has one video, one video has no author and one no duration.
    `sequences` has the rows it must have: all users as of the last two cuts, else who was shown
    something that day.
    """
    behind, rng = tastes(seed, n_users=n_users, n_videos=n_videos), np.random.default_rng([seed, 1])
    events = _events(behind, n_shown, in_pairs=in_pairs, rng=rng)
    shown = [(one.at // DAY_US, one.user) for one in events]
    rows = []
    for day in CUTS:
        users = sorted({user for when, user in shown if when == day})
        rows += _rows(events, day, range(n_users) if day >= D else users, n_videos)
    duration = rng.integers(5_000, 60_000, size=n_videos)
    logged = [
        _exposure(one, int(duration[one.video])) for one in events if one.at >= CUTS[0] * DAY_US
    ]
    centres = rng.standard_normal((3, 5))[behind.of_video]
    vectors = (centres + 0.5 * rng.standard_normal((n_videos, 5))).astype(np.float32)
    vectors[rng.random(n_videos) < 0.2] = np.nan
    likes = _likes([one for one in events if one.at < D * DAY_US], n_users, n_videos)
    found = tables({"train": likes}, vectors={"visual": vectors})
    author = [f"a{taste}{video % 4}" for video, taste in enumerate(behind.of_video)]
    author[::8] = [f"b{video}" for video in range(0, n_videos, 8)]
    nodes = found["video_nodes"]
    lengths = [int(length) for length in duration[:-1]]
    nodes = nodes.drop_columns(["author_id", "duration_ms"])
    nodes = nodes.append_column("author_id", pa.array([None, *author[1:]], pa.string()))
    nodes = nodes.append_column("duration_ms", pa.array([*lengths, None], pa.int64()))
    return {
        **found,
        "watch_edges": pa.concat_tables(
            _watched(events, part, days)
            for part, days in zip(PARTS, (range(D - 1), (D - 1,), (D,)), strict=True)
        ),
        "video_nodes": nodes,
        "sequences": pa.Table.from_pylist(rows, schema=SEQUENCES),
        "exposures": pa.Table.from_pylist(logged, schema=EXPOSURES),
    }


def _events(
    behind: Tastes, n_shown: int, *, in_pairs: bool, rng: np.random.Generator
) -> list[Event]:
    """Everything that is shown, in the order of time."""
    n_users, n_videos = len(behind.of_user), len(behind.of_video)
    found = []
    for user in np.delete(np.arange(n_users), n_users // 2).tolist():
        due: int | None = None
        for day in range(D - N_DAYS + 1, D + 1)[-1 if user == n_users - 1 else 0 :]:
            there = np.arange(0, n_videos - (2 if day == D else 4), 2 if in_pairs else 1)
            own = behind.of_video[there] == behind.of_user[user]
            for second in np.sort(rng.choice(86_400, n_shown, replace=False)).tolist():
                mine = rng.random() < 0.5
                video = int(rng.choice(there[own == mine])) if due is None else due
                liked = rng.random() < (0.9 if mine else 0.1) or due is not None
                due = video + 1 if in_pairs and liked and due is None else None
                found.append(Event(day * DAY_US + second * 1_000_000, user, video, bool(liked)))
    return sorted(found)


def _exposure(event: Event, duration_ms: int) -> dict[str, Any]:
    """A row of `exposures`."""
    at, user, video, liked = event
    watch_ms = duration_ms if liked else duration_ms // (2 + video % 8)
    return {
        "cut_at": at // DAY_US * DAY_US,
        "event_id": f"e{at}-{user}",
        "user_idx": user,
        "video_idx": video,
        "started_at": at,
        "feedback": "positive" if liked else ("neutral" if video % 8 < 2 else "negative"),
        "watch_ms": watch_ms,
        "duration_ms": duration_ms,
    }


def _likes(events: Sequence[Event], n_users: int, n_videos: int) -> npt.NDArray[np.bool_]:
    """Who likes what. [n_users, n_videos]."""
    likes = np.zeros((n_users, n_videos), dtype=bool)
    for one in events:
        likes[one.user, one.video] |= one.liked
    return likes


def _rows(
    events: Sequence[Event], day: int, users: Sequence[int], n_videos: int
) -> list[dict[str, Any]]:
    """Rows of `sequences` as of the start of a day, futures by brute force (microrec/models/README.md, section 4.2)."""
    cut = day * DAY_US
    before = [one for one in events if one.at < cut]
    history: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for one in before:
        if one.liked:
            history[one.user].append((one.at, one.video))
    n_users = 1 + max([*users, *history])
    near = user_edges(_likes(before, n_users, n_videos)).to_pylist()
    rows = []
    for user in users:
        pearson = {one["neighbour_idx"]: one["pearson"] for one in near if one["user_idx"] == user}
        future = _future(history, user, pearson, cut)
        instants = [at for at, _ in history[user]] + [one["at"] for one in future]
        rows.append(
            {
                "cut_at": cut,
                "user_idx": user,
                "history": [{"video_idx": video, "at": at} for at, video in history[user]],
                "future": future,
                "future_from": "neighbours" if future else "none",
                "last_at": max(instants, default=None),
            }
        )
    return rows


def _future(
    history: Mapping[int, list[tuple[int, int]]], user: int, near: Mapping[int, float], cut: int
) -> list[dict[str, Any]]:
    """The five viewings of each neighbour after each of the user's five latest videos."""
    known = [video for _, video in history[user]]
    anchors = [*dict.fromkeys(reversed(known))][:5]
    weight: dict[int, float] = defaultdict(float)
    latest: dict[int, int] = {}
    for other, pearson in sorted(near.items()):
        last = {video: place for place, (_, video) in enumerate(history[other])}
        for anchor in (one for one in anchors if one in last):
            for at, video in history[other][last[anchor] + 1 : last[anchor] + 6]:
                weight[video] += pearson * float(np.exp((at - cut) / (7 * DAY_US)))
                latest[video] = max(at, latest.get(video, 0))
    new = [video for video in weight if video not in known]
    kept = sorted(new, key=lambda video: (-weight[video], video))[:50]
    steps = sorted((latest[video], video) for video in kept)
    return [{"video_idx": video, "at": at, "weight": weight[video]} for at, video in steps]


def _watched(events: Sequence[Event], part: str, days: Sequence[int]) -> pa.Table:
    """Rows of `watch_edges` of one part."""
    of_part = [one for one in events if one.at // DAY_US in days]
    _, user, video, liked = map(np.array, zip(*of_part, strict=True))
    pair, place = np.unique(np.stack([user, video]), axis=1, return_inverse=True)
    edges = watch_edges(part, *pair)
    last = np.zeros(len(edges), dtype=np.int64)
    np.maximum.at(last, place, [one.at for one in of_part])
    n_views, n_positive = np.bincount(place), np.bincount(place, weights=liked)
    for name, values in (
        ("weight", n_positive),
        ("n_views", n_views),
        ("n_positive", n_positive),
        ("n_negative", n_views - n_positive),
        ("last_at", last),
    ):
        at = edges.schema.get_field_index(name)
        column = pa.array(values.astype(np.int64)).cast(edges.schema.field(name).type)
        edges = edges.set_column(at, name, column)
    return edges


def tables(
    likes: Mapping[str, npt.NDArray[np.bool_]], *, vectors: Mapping[str, Matrix] | None = None
) -> dict[str, pa.Table]:
    """All tables of a graph from the liked pairs of each part and the vectors per modality."""
    n_users, n_videos = next(iter(likes.values())).shape
    ids = [f"v{video:04d}" for video in range(n_videos)]
    anywhere = np.logical_or.reduce(list(likes.values()))
    return {
        "watch_edges": pa.concat_tables(
            watch_edges(split, *np.nonzero(liked)) for split, liked in likes.items()
        ),
        "users": pa.table(
            {
                "user_idx": pa.array(range(n_users), pa.int32()),
                "user_id": [f"u{user:04d}" for user in range(n_users)],
            }
        ),
        "video_nodes": pa.table(
            {
                "video_idx": pa.array(range(n_videos), pa.int32()),
                "video_id": ids,
                "eligible": [True] * n_videos,
                "author_id": pa.nulls(n_videos, pa.string()),
                "duration_ms": pa.array([20_000] * n_videos, pa.int64()),
            }
        ),
        "video_features": video_features(vectors or {}, ids),
        "modality_edges": modality_edges(vectors or {}, k=4),
        "user_edges": user_edges(anywhere),
    }


def watch_edges(split: str, user: npt.ArrayLike, video: npt.ArrayLike) -> pa.Table:
    """One positive viewing for each pair; the later in the part the higher the indices."""
    user, video = np.asarray(user), np.asarray(video)
    at = PARTS.index(split) * DAY_US + (user * 7919 + video * 104729) % 1000 * 1000
    return pa.table(
        {
            "split": pa.array([split] * len(user), pa.string()),
            "user_idx": pa.array(user, pa.int32()),
            "video_idx": pa.array(video, pa.int32()),
            "weight": pa.array(1 + (user + video) % 3 / 7, pa.float64()),
            "n_views": pa.array(np.ones(len(user)), pa.int32()),
            "n_positive": pa.array(np.ones(len(user)), pa.int32()),
            "n_negative": pa.array(np.zeros(len(user)), pa.int32()),
            "undone": pa.array(np.zeros(len(user), dtype=bool)),
            "last_at": pa.array(at, pa.int64()).cast(pa.timestamp("us", "UTC")),
        }
    )


def video_features(vectors: Mapping[str, Matrix], ids: list[str]) -> pa.Table:
    """A row for each vector without NaN."""
    rows = [
        (modality, ids[video], vector.tolist())
        for modality, matrix in vectors.items()
        for video, vector in enumerate(matrix)
        if np.isfinite(vector).all()
    ]
    names, owners, values = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "modality": pa.array(names, pa.string()),
            "video_id": pa.array(owners, pa.string()),
            "vector": pa.array(values, pa.list_(pa.float32())),
        }
    )


def modality_edges(vectors: Mapping[str, Matrix], *, k: int) -> pa.Table:
    """Brute-force cosine neighbours."""
    rows = []
    for modality, matrix in vectors.items():
        whole = np.flatnonzero(np.isfinite(matrix).all(axis=1))
        unit = matrix[whole] / np.linalg.norm(matrix[whole], axis=1, keepdims=True)
        cosine = unit @ unit.T
        for place, video in enumerate(whole):
            order = [other for other in np.argsort(-cosine[place]) if other != place][:k]
            rows += [(modality, video, whole[other], cosine[place, other]) for other in order]
    names, videos, neighbours, similarities = zip(*rows, strict=True) if rows else ((),) * 4
    return pa.table(
        {
            "modality": pa.array(names, pa.string()),
            "video_idx": pa.array(videos, pa.int32()),
            "neighbour_idx": pa.array(neighbours, pa.int32()),
            "similarity": pa.array(similarities, pa.float32()),
        }
    )


def user_edges(likes: npt.NDArray[np.bool_]) -> pa.Table:
    """Brute-force positive Pearson correlations, all of them."""
    with np.errstate(invalid="ignore", divide="ignore"):
        pearson = np.nan_to_num(np.corrcoef(likes.astype(float)))
    np.fill_diagonal(pearson, 0)
    user, neighbour = np.nonzero(pearson > 1e-12)
    return pa.table(
        {
            "user_idx": pa.array(user, pa.int32()),
            "neighbour_idx": pa.array(neighbour, pa.int32()),
            "pearson": pa.array(pearson[user, neighbour], pa.float64()),
        }
    )


def shuffled(world: Mapping[str, pa.Table], seed: int) -> dict[str, pa.Table]:
    """The same rows of every table in another order."""
    rng = np.random.default_rng(seed)
    return {name: rows.take(rng.permutation(rows.num_rows)) for name, rows in world.items()}
