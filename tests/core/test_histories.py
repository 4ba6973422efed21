"""Places in a history."""

import numpy as np

from microrec.core.histories import places_of


def test_places_latest_is_0_and_equal_instants_follow_the_pairs() -> None:
    user = np.array([0, 0, 0, 2, 2, 2])
    last_at = np.array([5, 9, 7, 1, 3, 3])
    assert places_of(user, last_at).tolist() == [2, 0, 1, 2, 0, 1]


def test_places_without_viewings_are_none() -> None:
    assert len(places_of(np.empty(0, np.int64), np.empty(0, np.int64))) == 0
