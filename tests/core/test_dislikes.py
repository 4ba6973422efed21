"""A dislike undoes what came before it, held against a loop."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from microrec.core.dislikes import standing
from microrec.core.fits import SPLITS

EDGE = st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(SPLITS), st.booleans())


@given(st.lists(EDGE, max_size=12, unique_by=lambda edge: edge[:3]))
def test_standing_any_edges_equals_the_rule_as_a_loop(
    edges: list[tuple[int, int, str, bool]],
) -> None:
    columns = list(zip(*edges, strict=True)) or [()] * 4
    types = {
        "user_idx": pa.int32(),
        "video_idx": pa.int32(),
        "split": pa.string(),
        "undone": pa.bool_(),
    }
    table = pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, types.values(), strict=True)],
        names=list(types),
    )
    right = [
        not any(
            (user, video) == (other, clip) and undone and SPLITS.index(then) > SPLITS.index(split)
            for other, clip, then, undone in edges
        )
        for user, video, split, _ in edges
    ]
    assert standing(table).tolist() == right
