"""What a night's lists of segments are made of, for the oracle."""

from microrec.candidates.lists.segments import Config
from microrec.oracle import segments
from microrec.oracle.inputs import ListInputs
from microrec.pipeline.night import Night
from microrec.pipeline.segment_lists import COUNTS, EPOCH, tags


def read(night: Night, made_of: ListInputs) -> segments.SegmentInputs:
    """Read what the lists of surfaces and tags are made of.

    Args:
        night: of the final fit.
        made_of: what the lists of its users are made of.

    Returns:
        The inputs of the oracle.
    """
    counts = night.read("exposure_counts", columns=COUNTS)
    at = counts.schema.get_field_index("shown_on")
    counts = counts.set_column(at, "shown_on", counts["shown_on"].cast("int32"))
    return segments.inputs(
        made_of,
        night.recipe.section("candidates.segments", Config),
        counts,
        tags(night, night.read("video_nodes")),
        today=night.day.toordinal() - EPOCH + 1,
    )
