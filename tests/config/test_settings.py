"""What the environment says beside the settings: how many threads BLAS works with."""

import os

import pytest

from microrec.config.settings import blas_threads


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "many"}, None),
        ({}, None),
    ],
)
def test_blas_threads_follow_the_variables_of_openblas_else_the_cores(
    environment: dict[str, str], threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert blas_threads() == (threads or len(os.sched_getaffinity(0)))
