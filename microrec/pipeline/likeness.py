"""What the videos of a night have in common, read from its vectors."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from microrec.candidates.lists import likeness
from microrec.candidates.lists.likeness import Likeness
from microrec.graphs.similarity import modality_config
from microrec.pipeline.night import Night


def read(
    night: Night, videos: pa.Table, *, collapse: float | None, without: Collection[str] = ()
) -> Likeness:
    """Read what the videos have in common.

    Args:
        night: has their vectors.
        videos: rows of `video_nodes`.
        collapse: similarity from which on two are near-duplicates; None: none are.
        without: modalities that do not count.

    Returns:
        Authors, near-duplicates and vectors. [n_videos, ...]
    """
    return likeness.likeness(
        features(night, without=without),
        videos,
        collapse=collapse,
        centred=centred(night),
        edges=night.read("modality_edges"),
    )


def features(night: Night, *, without: Collection[str] = ()) -> pa.Table:
    """Return the rows of `video_features`, one per (modality, video).

    Args:
        night: has them.
        without: modalities that do not count.
    """
    rows = night.read("video_features")
    return rows.filter(pc.invert(pc.is_in(rows["modality"], pa.array(without, pa.string()))))


def centred(night: Night) -> list[str]:
    """Return the modalities whose mean direction the night's graphs take off first."""
    return night.recipe.section("graphs.modality", modality_config.Config).centred
