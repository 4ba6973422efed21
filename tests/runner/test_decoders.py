"""A file that hangs or kills its decoder takes no other along, and the night does not wait for it."""

import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from microrec.config.settings import settings
from microrec.features import files
from microrec.features.files import Job
from microrec.runner import decoders
from microrec.synth import media
from microrec.synth.media import Film

STAND_IN = """
import json, os, sys, time
for line in sys.stdin:
    job = json.loads(line)
    name = job["files"]["video"]
    if name == "hang":
        time.sleep(60)
    if name == "die":
        os._exit(1)
    if name == "half":
        sys.stdout.write('{"visual": [1')
        sys.stdout.flush()
        os._exit(1)
    print(json.dumps({m: [os.getpid()] for m in job["modalities"]}), flush=True)
"""


def jobs(*names: str) -> list[Job]:
    return [
        files.job(files.Config(), paths={"video": name}, modalities=["visual"], duration_ms=None)
        for name in names
    ]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that does what the names of its files say."""
    program = tmp_path / "stand_in"
    program.write_text(f"#!/bin/sh\nexec python3 {tmp_path}/stand_in.py\n")
    program.chmod(0o755)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setattr(decoders.sys, "executable", str(program))


@pytest.mark.usefixtures("stand_in")
def test_files_that_hang_or_kill_their_decoder_are_alone_without_vectors() -> None:
    names = ("a", "die", "b", "hang", "half", "c")
    made = [*decoders.make_all(jobs(*names), processes=1, seconds=2, megabytes=500, budget=60)]
    reasons = [row["visual"] if isinstance(row["visual"], str) else None for row in made]
    died, timed_out = decoders.DIED, decoders.TIMED_OUT
    assert reasons == [None, died, None, timed_out, died, None]
    # One process until it dies, then another.
    assert len({row["visual"][0] for row in made if not isinstance(row["visual"], str)}) == 3


def test_answers_are_held_as_arrays() -> None:
    answer = {"visual": [0.5, 1.0], "acoustic": "no_sound", "clips": [[0, 5, [1.0]], [5, 9, [2.0]]]}
    made = decoders.unpacked(answer)
    assert made["acoustic"] == "no_sound"
    assert (made["visual"].dtype, made["visual"].tolist()) == (np.float32, [0.5, 1.0])
    assert made["clips"].bounds_ms.tolist() == [[0, 5], [5, 9]]
    assert (made["clips"].vector.dtype, made["clips"].vector.shape) == (np.float32, (2, 1))


@pytest.mark.usefixtures("stand_in")
def test_no_file_is_begun_after_the_budget() -> None:
    began = time.monotonic()
    made = [
        *decoders.make_all(jobs(*["hang"] * 9), processes=2, seconds=1, megabytes=500, budget=0.5)
    ]
    assert time.monotonic() - began < 30
    reasons = [row["visual"] for row in made]
    assert sorted(set(reasons)) == [decoders.OVER_BUDGET, decoders.TIMED_OUT]
    assert reasons.count(decoders.TIMED_OUT) == 2


def test_real_decoder_answers_with_reasons(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(b"no film")
    paths = {"video": str(tmp_path / "a.mp4")}
    job = files.job(files.Config(), paths=paths, modalities=["visual"], duration_ms=None)
    (made,) = decoders.make_all([job], processes=2, seconds=60, megabytes=2_048, budget=60)
    assert made == {"visual": "unreadable"}
    (made,) = decoders.make_all([job], processes=2, seconds=60, megabytes=30, budget=60)
    assert made == {"visual": "failed"}


@pytest.mark.spark
def test_tasks_of_spark_make_what_processes_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    some = []
    for number in range(5):
        path = tmp_path / f"{number}.mp4"
        film = media.render(Film(number, 1, 1.0), np.random.default_rng(number))
        path.write_bytes(film if number != 2 else b"no film")
        some.append(
            files.job(
                files.Config(),
                paths={"video": str(path)},
                modalities=[*files.MODALITIES],
                duration_ms=None,
            )
        )
    limits = {"processes": 2, "seconds": 60.0, "megabytes": 2_048, "budget": 60.0}
    here = [*decoders.make_all(some, **limits)]
    monkeypatch.setenv("MICROREC_DECODE_TASKS", "3")
    settings.cache_clear()
    calls = []
    monkeypatch.setattr(decoders, "_made_here", lambda *args, **rest: calls.append(args))
    spread = [*decoders.make_all(some, **limits)]
    settings.cache_clear()
    assert calls == []
    assert here[2] == spread[2] == dict.fromkeys(files.MODALITIES, "unreadable")
    assert [pickle.dumps(made) for made in spread] == [pickle.dumps(made) for made in here]


def test_no_jobs_start_no_process() -> None:
    assert [*decoders.make_all([], processes=2, seconds=1, megabytes=500, budget=1)] == []
