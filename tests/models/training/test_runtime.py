"""From where a fit starts: which nodes of today had a row yesterday, and what each phase may start from."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from microrec.errors import MissingDay
from microrec.models.training import runtime


def nodes(users: Sequence[str], videos: Sequence[str]) -> dict[str, pa.Table]:
    """Return `users` and `video_nodes` whose rows lie in reverse order of their index."""
    return {
        table: pa.table({f"{node}_idx": range(len(ids)), f"{node}_id": list(ids)}).sort_by(
            [(f"{node}_idx", "descending")]
        )
        for table, node, ids in (("users", "user", users), ("video_nodes", "video", videos))
    }


def test_places_new_nodes_are_minus_one() -> None:
    now = nodes(["b", "new", "a"], ["v2"])
    then = nodes(["a", "b", "gone"], ["v1", "v2"])
    user, video = runtime.places(now, then)
    assert user.tolist() == [1, -1, 0]
    assert video.tolist() == [1]


def test_places_are_indices_where_somebody_was_erased() -> None:
    then = nodes(["a", "erased", "b", "c"], ["v1"])
    then["users"] = then["users"].filter(pc.not_equal(then["users"]["user_id"], "erased"))
    user, _ = runtime.places(nodes(["c", "b", "a"], ["v1"]), then)
    assert user.tolist() == [3, 2, 0]


def test_starts_without_warm_start_reads_nothing() -> None:
    def refuse(*words: object, **named: object) -> None:
        raise AssertionError("read")

    config = SimpleNamespace(warm_start=False, epochs=None)
    assert runtime.starts(config, "2026-01-03", nodes={}, find=refuse, read=refuse) == {}


@pytest.mark.parametrize(("epochs", "fits"), [(None, ["trial", "final"]), (3, ["final"])])
def test_starts_missing_artefact_leaves_phase_cold(epochs: int | None, fits: list[str]) -> None:
    tried = []

    def find(fit: str) -> Path:
        tried.append(fit)
        raise MissingDay("models[day=2026-01-03]")

    config = SimpleNamespace(warm_start=True, epochs=epochs)
    assert runtime.starts(config, "2026-01-03", nodes={}, find=find, read=lambda name: None) == {}
    assert tried == fits
