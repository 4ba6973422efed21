"""Who is within the cap."""

import numpy as np
import pytest

from microrec.models.neighbours.activity import ActivityCap, activity_cap


@pytest.mark.parametrize(("multiple", "cap"), [(20.0, 60), (1.0, 3), (0.5, 1)])
def test_cap_is_a_multiple_of_the_median_of_active_users(multiple: float, cap: int) -> None:
    n_liked = np.array([0, 0, 1, 2, 3, 4, 900], dtype=np.int32)
    assert activity_cap(n_liked, ActivityCap(activity_multiple=multiple)) == cap


def test_cap_explicit_number_overrides_the_rule_and_none_has_no_cap() -> None:
    n_liked = np.array([1, 2, 3], dtype=np.int32)
    assert activity_cap(n_liked, ActivityCap(activity_cap=7)) == 7
    assert activity_cap(n_liked * 0, ActivityCap()) == 0


def test_cap_finds_all_of_many_abnormal_users() -> None:
    """TikTok's shape: 1.1 % of the users have hundreds of videos, the others one to four."""
    light = np.random.default_rng(0).integers(1, 5, 890)
    n_liked = np.concatenate([light, np.full(10, 400)]).astype(np.int32)
    assert (n_liked > activity_cap(n_liked, ActivityCap())).sum() == 10
    assert (light > activity_cap(light.astype(np.int32), ActivityCap())).sum() == 0
