"""The benchmarks run at their smallest size and find our results right; no time is asserted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks import graphs, scale


def figures(out: Path, metric: str) -> dict[tuple[str, str], Any]:
    rows = json.loads((out / "results.json").read_text())
    return {
        (one["benchmark"], one["name"]): one["value"] for one in rows if one["metric"] == metric
    }


def test_kernels_and_a_peer_at_the_smallest_size(tmp_path: Path) -> None:
    graphs.main(
        ["--scale", "smoke", "--stage", "pearson", "modality", "knobs", "--runs", "1", "--out", str(tmp_path),
"--only", "microrec kernel,microrec exact,approximate,numpy,exact,hub_cap=100"]
    )  # fmt: skip
    equal, kept = figures(tmp_path, "equal"), figures(tmp_path, "recall@50")
    assert equal["pearson", graphs.KERNEL] == equal["modality", graphs.COSINE] == 1
    assert equal["pearson", "peer: numpy dense"] == 1
    assert figures(tmp_path, "recall@20")["modality", "microrec approximate"] > 0.9
    assert kept["knobs", "exact"] == 1
    assert (tmp_path / "results.md").read_text().startswith("# Graph benchmarks")


@pytest.mark.spark
@pytest.mark.slow
def test_the_spark_stages_at_the_smallest_size(tmp_path: Path) -> None:
    graphs.main(["--scale", "smoke", "--stage", "spark", "--runs", "1", "--out", str(tmp_path)])
    equal = figures(tmp_path, "equal")
    assert equal["spark", graphs.EXACT] == equal["spark", graphs.PROCESS] == 1


def test_prices_of_work_are_found_again() -> None:
    generator = np.random.default_rng(3)
    units = generator.uniform(1, 1e9, size=(8, 3))
    true = np.array([2e-9, 0.0, 5e-10])
    assert scale.prices(units, units @ true) == pytest.approx(true, rel=1e-6, abs=1e-15)


def test_work_counts_pairs_and_words() -> None:
    viewers = np.array([600.0, 90.0, 10.0, 10.0])
    # More than 5 % of 1,000 users: two videos, in one group of four words of 16.
    assert scale.work(viewers, 1000)[:3].tolist() == [1e6, 4e6, 200.0]
