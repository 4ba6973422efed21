"""What a night's similar videos are made of, for the oracle."""

from collections.abc import Sequence

import pyarrow.compute as pc

from microrec.candidates.lists import similar
from microrec.oracle import inputs, lists
from microrec.oracle.inputs import ListInputs
from microrec.oracle.similar import SimilarInputs, neighbours
from microrec.pipeline.night import Night


def read(night: Night, made_of: ListInputs, video_ids: Sequence[str]) -> SimilarInputs:
    """Read what the similar videos of some videos are made of.

    Args:
        night: of the final fit.
        made_of: what the lists of its users are made of.
        video_ids: the videos.

    Returns:
        The inputs of the oracle.
    """
    config = night.recipe.section("candidates.similar", similar.Config)
    edges = night.read("modality_edges")
    of_media = edges.filter(pc.not_equal(edges["modality"], "tags"))
    n_videos = len(made_of.video_id)
    video_idx = {video_id: video for video, video_id in enumerate(made_of.video_id)}
    return SimilarInputs(
        night=made_of,
        config=config,
        near=neighbours(edges, [video_idx[video_id] for video_id in video_ids]),
        cluster=lists.clusters(inputs.alike(of_media, n_videos), config.collapse, n_videos),
    )
