"""What a night's similar videos are made of, for the oracle."""

from collections.abc import Sequence

from microrec.candidates.lists import similar
from microrec.oracle.inputs import ListInputs
from microrec.oracle.lists import clusters
from microrec.oracle.similar import SimilarInputs, neighbours
from microrec.pipeline.night import Night
from microrec.pipeline.oracle_inputs import unit_vectors
from microrec.pipeline.similar_videos import TAGS


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
    videos = night.read("video_nodes").sort_by("video_idx")
    vectors = unit_vectors(night, videos, without=[TAGS])
    video_idx = {video_id: video for video, video_id in enumerate(made_of.video_id)}
    return SimilarInputs(
        night=made_of,
        config=config,
        near=neighbours(edges, [video_idx[video_id] for video_id in video_ids]),
        cluster=clusters(vectors, config.collapse, edges),
    )
