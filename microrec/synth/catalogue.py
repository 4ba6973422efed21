"""The videos of a world as the producers deliver them: rows of the catalogue, vectors, clips.

A day's delivery holds what is new or changed on it. The first day's holds the initial catalogue.
"""

import dataclasses

import numpy as np
import pyarrow as pa

from microrec.core.array_types import Bools, Float64s, Int64s
from microrec.synth import captions
from microrec.synth.config import Config
from microrec.synth.population import N_CLIPS, Videos

MODALITIES = ("visual", "acoustic", "textual")

VIDEO_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("author_id", pa.string()),
        ("published_at", pa.timestamp("us", tz="UTC")),
        ("duration_ms", pa.int64()),
        ("caption", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("eligible", pa.bool_()),
    ]
)
FEATURE_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("modality", pa.string()),
        ("encoder_version", pa.string()),
        ("vector", pa.list_(pa.float32())),
    ]
)
CLIP_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("clip_no", pa.int32()),
        ("start_ms", pa.int64()),
        ("end_ms", pa.int64()),
        ("vector", pa.list_(pa.float32())),
    ]
)

_NOISE = {
    "visual": 0.8,
    "acoustic": 1.5,
    "textual": 1.0,
}  # of clusters that lie 1 apart a dimension
_THEMES = ("cooking", "football", "cats", "guitar", "travel", "chess", "dance", "repairs")
_CAPTIONS = (
    "{theme} for beginners",
    'the "best of" {theme}, part {n}',
    "{theme}, {theme}, and more {theme}",
    "100% {theme} — épisode {n}",
    "{theme} \\ how to; tab\there {n}",
)
_N_CHANGED = 2  # captions edited a day
_N_REENCODED = 3  # visual vectors delivered again on the third day


@dataclasses.dataclass(frozen=True)
class Vectors:
    """The vectors of one modality.

    Attributes:
        values: one vector a video, broken ones included  # [n_videos]
        missing: never delivered  # [n_videos]
        zero: all zeros  # [n_videos]
        broken: NaN, an infinity, no vector at all, or too short  # [n_videos]
    """

    values: list[list[float] | None]
    missing: Bools
    zero: Bools
    broken: Bools


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """What the producers know about the videos.

    Attributes:
        rows: columns of `VIDEO_SCHEMA` as first published, one row a video, in order.
        taken_down: position of the video that stops being eligible, None in a world of one day.
        takedown_day: offset of the day it does.
        vectors: by modality that is delivered.
        clips: columns of `CLIP_SCHEMA` and, as `position`, the video.
    """

    rows: pa.Table
    taken_down: int | None
    takedown_day: int
    vectors: dict[str, Vectors]
    clips: pa.Table


def draw(config: Config, videos: Videos, rng: np.random.Generator) -> Catalogue:
    """Return everything the producers deliver about videos.

    Args:
        config: sizes and shares.
        videos: the videos of the world.
        rng: source of every draw.
    """
    rows = _video_rows(config, videos, rng)
    taken_down = None
    if config.days > 1:
        candidates = np.flatnonzero((videos.born == 0) & videos.eligible)
        taken_down = int(candidates[np.argmax(videos.popularity[candidates])])
    dims = {
        "visual": config.visual_dim,
        "acoustic": config.acoustic_dim,
        "textual": config.textual_dim,
    }
    vectors = {name: _vectors(config, videos, name, dims[name], rng) for name in MODALITIES}
    clips = _clip_rows(config, videos, rng)
    if config.words:
        # A generator of its own: all else is as in the world without.
        rows = _with_captions(rows, captions.draw(videos.cluster, rng.spawn(1)[0]))
        del vectors["textual"]
    if config.media:
        del vectors["visual"], vectors["acoustic"]
        clips = clips.slice(0, 0)
    return Catalogue(rows, taken_down, min(3, config.days - 1), vectors, clips)


def videos_of(catalogue: Catalogue, videos: Videos, day: int) -> pa.Table:
    """Return the rows of `raw_videos` delivered on a day: published, edited or taken down on it.

    Args:
        catalogue: everything that is delivered about videos.
        videos: the videos of the world.
        day: offset from the first day.
    """
    delivered = catalogue.rows.filter(videos.born == day)
    if day > 0:
        delivered = pa.concat_tables([delivered, _edited(catalogue, videos, day)])
    if day == catalogue.takedown_day and catalogue.taken_down is not None:
        row = catalogue.rows.slice(catalogue.taken_down, 1)
        gone = row.set_column(row.num_columns - 1, "eligible", pa.array([False]))
        delivered = pa.concat_tables([delivered, gone])
    return delivered


def features_of(catalogue: Catalogue, videos: Videos, day: int) -> pa.Table:
    """Return the rows of `raw_video_features` delivered on a day: all vectors of new videos, some anew.

    Args:
        catalogue: everything that is delivered about videos.
        videos: the videos of the world.
        day: offset from the first day.
    """
    rows = []
    for modality, vectors in catalogue.vectors.items():
        delivered = list(np.flatnonzero((videos.born == day) & ~vectors.missing))
        if day == 2 and modality == "visual":
            sound = ~(vectors.missing | vectors.zero | vectors.broken)
            delivered += list(np.flatnonzero((videos.born == 0) & sound)[:_N_REENCODED])
        for position in delivered:
            rows.append(
                {
                    "video_id": str(videos.ids[position]),
                    "modality": modality,
                    "encoder_version": f"planted-{modality}-1",
                    "vector": vectors.values[position],
                }
            )
    return pa.Table.from_pylist(rows, schema=FEATURE_SCHEMA)


def clips_of(catalogue: Catalogue, videos: Videos, day: int) -> pa.Table:
    """Return the rows of `raw_clip_features` delivered on a day: four for a new video that has them.

    Args:
        catalogue: everything that is delivered about videos.
        videos: the videos of the world.
        day: offset from the first day.
    """
    positions = catalogue.clips.column("position").to_numpy()
    return catalogue.clips.filter(videos.born[positions] == day).select(CLIP_SCHEMA.names)


def ineligible(catalogue: Catalogue, videos: Videos, day: int) -> Bools:
    """Return which videos [n_videos] are out on a day and may not be recommended at its end.

    Args:
        catalogue: everything that is delivered about videos.
        videos: the videos of the world.
        day: offset from the first day.
    """
    barred = (videos.born <= day) & ~videos.eligible
    if catalogue.taken_down is not None and day >= catalogue.takedown_day:
        barred[catalogue.taken_down] = True
    return barred


def _video_rows(config: Config, videos: Videos, rng: np.random.Generator) -> pa.Table:
    n = config.videos
    authors_per_cluster = max(1, n // config.clusters // 6)
    author = videos.cluster + config.clusters * rng.integers(0, authors_per_cluster, size=n)
    n_tags = rng.integers(0, 4, size=n)
    wording = rng.integers(0, len(_CAPTIONS), size=n)
    unnamed = rng.random(n) < 0.05
    rows = [
        {
            "video_id": str(videos.ids[v]),
            "author_id": f"a{author[v]:05d}",
            "published_at": int(videos.published_ms[v]) * 1_000,
            "duration_ms": int(videos.duration_ms[v]) if videos.duration_known[v] else None,
            "caption": None if unnamed[v] else _caption(int(videos.cluster[v]), v, wording[v]),
            "tags": _tags(config, int(videos.cluster[v]), int(n_tags[v]), rng),
            "eligible": bool(videos.eligible[v]),
        }
        for v in range(n)
    ]
    return pa.Table.from_pylist(rows, schema=VIDEO_SCHEMA)


def _caption(cluster: int, number: int, wording: int) -> str:
    """Captions hold what breaks careless parsers: quotes, commas, a tab, a backslash, accents."""
    return _CAPTIONS[wording].format(theme=_THEMES[cluster % len(_THEMES)], n=number)


def _tags(config: Config, cluster: int, n_tags: int, rng: np.random.Generator) -> list[str]:
    """Tags of the cluster, every fifth one of any cluster; none for some videos."""
    of = np.where(rng.random(n_tags) < 0.8, cluster, rng.integers(0, config.clusters, size=n_tags))
    kinds = rng.integers(0, 3, size=n_tags)
    return sorted({f"t{c}-{k}" for c, k in zip(of, kinds, strict=True)})


def _edited(catalogue: Catalogue, videos: Videos, day: int) -> pa.Table:
    """Videos of the first day that get a new caption; not the one that is taken down."""
    old = np.flatnonzero(videos.born == 0)
    old = old[old != catalogue.taken_down]
    chosen = old[(np.arange(_N_CHANGED) + day * _N_CHANGED) % len(old)]
    rows = catalogue.rows.take(np.unique(chosen))
    edited = [f"{caption or 'untitled'} (edited)" for caption in rows["caption"].to_pylist()]
    return _with_captions(rows, edited)


def _with_captions(rows: pa.Table, texts: list[str]) -> pa.Table:
    at = rows.schema.get_field_index("caption")
    return rows.set_column(at, "caption", pa.array(texts, pa.string()))


def _vectors(
    config: Config, videos: Videos, modality: str, dim: int, rng: np.random.Generator
) -> Vectors:
    centre = rng.normal(size=(config.clusters, dim))
    noise = rng.normal(size=(config.videos, dim))
    values = _as_lists(centre[videos.cluster] + _NOISE[modality] * noise)
    missing, zero, broken = _fates(config, rng)
    for position in np.flatnonzero(zero):
        values[position] = [0.0] * dim
    for number, position in enumerate(np.flatnonzero(broken)):
        values[position] = _break(values[position], number)
    return Vectors(values, missing, zero, broken)


def _fates(config: Config, rng: np.random.Generator) -> tuple[Bools, Bools, Bools]:
    """Three disjoint random subsets of exactly the configured sizes."""
    order = rng.permutation(config.videos)
    shares = (config.missing_vector_share, config.zero_vector_share, config.broken_vector_share)
    ends = np.cumsum([round(share * config.videos) for share in shares])
    masks = np.zeros((3, config.videos), dtype=np.bool_)
    for number, chosen in enumerate(np.split(order, ends)[:3]):
        masks[number, chosen] = True
    return masks[0], masks[1], masks[2]


def _break(vector: list[float] | None, number: int) -> list[float] | None:
    sound = vector or []
    ways: tuple[list[float] | None, ...] = (
        [float("nan"), *sound[1:]],
        [*sound[:-1], float("inf")],
        sound[:-1],
        None,
    )
    return ways[number % len(ways)]


def _clip_rows(config: Config, videos: Videos, rng: np.random.Generator) -> pa.Table:
    """Equal quarters; the weak clip's vector carries a mark of its own besides the cluster's."""
    chosen = np.sort(
        rng.permutation(config.videos)[: round(config.clip_feature_share * config.videos)]
    )
    centre = rng.normal(size=(config.clusters, config.clip_dim))
    mark = rng.normal(size=config.clip_dim)
    position = chosen.repeat(N_CLIPS)
    clip_no = np.tile(np.arange(N_CLIPS), len(chosen))
    vector = centre[videos.cluster[position]] + 0.8 * rng.normal(
        size=(len(position), config.clip_dim)
    )
    vector += np.outer(clip_no == videos.weak_clip[position], mark)
    return pa.table(
        {
            "video_id": pa.array(videos.ids[position]),
            "clip_no": pa.array(clip_no, pa.int32()),
            "start_ms": _edge(videos, position, clip_no),
            "end_ms": _edge(videos, position, clip_no + 1),
            "vector": pa.array(_as_lists(vector), pa.list_(pa.float32())),
            "position": position,
        }
    )


def _edge(videos: Videos, position: Int64s, clip_no: Int64s) -> Int64s:
    edge: Int64s = videos.duration_ms[position] * clip_no // N_CLIPS
    return edge


def _as_lists(vectors: Float64s) -> list[list[float] | None]:
    """Rounded to four decimals: enough for a float32, and short as text."""
    return list(np.round(vectors, 4).tolist())
