"""The share of videos on the night's encoder: each bound fires on a planted share, and is silent beside it."""

import pytest

from microrec.evaluation import encoders
from microrec.evaluation.arrivals import Config


def modality(name: str, n_videos: int, n_all: int = 1000) -> dict[str, object]:
    return {"modality": name, "encoder_version": "1", "n_videos": n_videos, "n_all": n_all}


@pytest.mark.parametrize(
    ("n_videos", "n_all", "failed"),
    [
        (980, 1000, set()),
        (979, 1000, {"encoders_warned"}),
        (600, 1000, {"encoders_warned"}),
        (599, 1000, {"encoders_warned", "encoders"}),
        (1, 99, set()),
    ],
)
def test_judge_share_of_the_worst_modality(n_videos: int, n_all: int, failed: set[str]) -> None:
    rows = [modality("acoustic", 1000), modality("visual", n_videos, n_all)]
    results = encoders.judge(rows, config=Config())
    assert {result.gate for result in results if result.status == "fail"} == failed
    for result in results:
        assert ("visual" in result.detail) == (n_all >= 100 and n_videos < 1000)
        assert result.severity == {"encoders": "hold", "encoders_warned": "warn"}[result.gate]


def test_judge_without_vectors_passes() -> None:
    assert {result.status for result in encoders.judge([], config=Config())} == {"pass"}


def test_figures_are_shares_by_modality() -> None:
    rows = encoders.figures([modality("visual", 3, 4), modality("acoustic", 1, 1)])
    assert [(row["slice"], row["value"], row["n"]) for row in rows] == [
        ("modality=acoustic", 1.0, 1),
        ("modality=visual", 0.75, 4),
    ]
    assert {(row["name"], row["metric"]) for row in rows} == {
        ("raw_video_features", "encoder_share")
    }
