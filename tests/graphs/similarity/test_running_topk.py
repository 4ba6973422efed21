"""Running lists keep what a sort would keep, whatever the order of the candidates."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.graphs.similarity.running_topk import Lists, push


@settings(deadline=None)  # the first example compiles
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(-2, 2)), max_size=60),
    st.integers(1, 5),
)
def test_running_topk_equals_a_sort_per_row(triples: list[tuple[int, int, int]], k: int) -> None:
    candidates = {(row, other): score for row, other, score in triples}
    best = Lists.empty(5, k)
    for (row, other), score in candidates.items():
        push(best, row, float(score), other, score + other)
    rows = np.arange(10, 15, dtype=np.int32)
    edges = best.edges(rows, score="likeness", note="mark")
    expected = []
    for row in range(5):
        mine = sorted((-score, other) for (one, other), score in candidates.items() if one == row)
        expected += [
            (row + 10, other, float(-minus), other - minus, rank + 1)
            for rank, (minus, other) in enumerate(mine[:k])
        ]
    assert list(edges) == ["idx", "neighbour_idx", "likeness", "mark", "rank"]
    assert list(zip(*(column.tolist() for column in edges.values()), strict=True)) == expected
