"""FRAME knows the boring clip of films that nobody has watched by their clip vectors, and not without them."""

import pytest

pytest.importorskip("av")
from tests.benchmarks import weak_clips

pytestmark = pytest.mark.long


def test_boring_clip_of_cold_films_is_found_with_clip_vectors_alone() -> None:
    rows = weak_clips.results(weak_clips.measure(1, 400, 160), 1)
    cold = {
        (row["name"], row["metric"]): row for row in rows if str(row["split"]).startswith("cold")
    }
    gain = cold[weak_clips.DIFFERENCE, weak_clips.FIRST]
    assert float(str(gain["low"])) > 0.05
    loss = cold[weak_clips.DIFFERENCE, weak_clips.LOSS]
    assert float(str(loss["high"])) < -0.005
