"""Peak memory of the job `extract_features` by the number of videos: `python -m tests.benchmarks.extraction_memory`.

Each job runs in a process of its own, on a warehouse with one day's catalogue and on the day after, and reports the
peak of its own resident memory, and that of the largest decoder.

* `words`: captions and tags of planted catalogues. The first night fits an encoder and makes all vectors, the second
  takes them over.
* `films`: real films of `FILM_SECONDS` s, decoded (looks, sound, clips); `covers`: a picture each.
* `films, not decoded`: a stand-in answers for the decoder at once, so that many more files than a machine can decode
  in an hour show what the job holds of each.
"""

import argparse
import datetime as dt
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from microrec.features import files
from microrec.runner import decoders
from microrec.synth import media
from microrec.synth.media import Film
from microrec.synth.world import Config, generate
from microrec.tables.arrow import Warehouse
from tests.benchmarks import report
from tests.benchmarks.features import catalogue
from tests.benchmarks.report import Row, row

BENCHMARK = "extraction memory"
DAYS = (dt.date(2026, 1, 5), dt.date(2026, 1, 6))
FILM_SECONDS = 20.0
CLIPS = 4
STAND_IN = {
    files.VISUAL: [0.5] * 160,
    files.ACOUSTIC: [0.25] * 120,
    files.CLIPS: [[5_000 * n, 5_000 * (n + 1), [0.125] * 160] for n in range(CLIPS)],
}


def words_world(folder: Path, n: int) -> None:
    """A warehouse of two days with a catalogue of n captions."""
    config = Config(users=20, videos=n, days=1, words=True, dirt_per_kind=0, fresh_share=0.0)
    lay(folder, catalogue(generate(config, np.random.default_rng(1))))


def files_world(folder: Path, n: int, kind: str, seconds: float) -> None:
    """A warehouse of two days with n videos without words, whose files are one and the same."""
    ids = [f"v{number:07d}" for number in range(n)]
    nothing = pa.nulls(n, pa.string())
    videos = {
        "video_id": ids,
        "author_id": nothing,
        "published_at": pa.nulls(n, pa.timestamp("us", "UTC")),
        "duration_ms": pa.array([int(1_000 * FILM_SECONDS)] * n, pa.int64()),
        "caption": nothing,
        "tags": pa.nulls(n, pa.list_(pa.string())),
        "eligible": [True] * n,
    }
    lay(folder, pa.table(videos))
    zone = folder / "landing"
    (zone / "media").mkdir(parents=True)
    film = media.render(Film(1, 2, seconds), np.random.default_rng(1))
    (zone / "media" / "film.mp4").write_bytes(film)
    rows = zone / "raw_media" / f"day={DAYS[0]}"
    rows.mkdir(parents=True)
    lines = [json.dumps({"video_id": v, "kind": kind, "path": "media/film.mp4"}) for v in ids]
    (rows / "part-0.jsonl").write_text("\n".join(lines) + "\n")


def lay(folder: Path, videos: pa.Table) -> None:
    """Write the catalogue of both days."""
    opened = Warehouse.open(str(folder / "warehouse"))
    for day in DAYS:
        opened.write("videos", videos, day=day)


def peaks(folder: Path, day: dt.date, *, stand_in: bool) -> dict[str, float]:
    """Run the job in a process; peak MB of the job and of its largest decoder, and seconds."""
    command = [sys.executable, "-m", "tests.benchmarks.extraction_memory", "--job", str(day)]
    command += ["--stand-in"] if stand_in else []
    environment = {
        **os.environ,
        "MICROREC_WAREHOUSE": str(folder / "warehouse"),
        "MICROREC_LANDING": str(folder / "landing"),
        "OMP_NUM_THREADS": "1",
    }
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    measured: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return measured


def run_job(day: dt.date, *, stand_in: bool) -> None:
    """Run the job here, and print what it took."""
    from jobs import extract_features

    logging.basicConfig(level=logging.ERROR)
    if stand_in:
        decoders.Decoder.make = _stand_in  # type: ignore[method-assign]
    decoder = [0.0]
    threading.Thread(target=_watch, args=(decoder,), daemon=True).start()
    began = time.monotonic()
    extract_features.main(day=day)
    seconds = time.monotonic() - began
    measured = {"seconds": seconds, "job": _peak(os.getpid()), "decoder": decoder[0]}
    sys.stdout.write(json.dumps(measured) + "\n")


def _watch(most: list[float]) -> None:
    """Keep the greatest peak of a process that this one has started."""
    while True:
        for child in psutil.Process().children():
            most[0] = max(most[0], _peak(child.pid))
        time.sleep(0.05)


def _peak(pid: int) -> float:
    """Peak resident MB of a process; getrusage would count what its parent held when it was started."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return max(
        (int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:")), default=0.0
    )


def _stand_in(self: decoders.Decoder, job: files.Job) -> dict[str, Any]:
    answer = json.dumps({name: STAND_IN[name] for name in job["modalities"]})
    return decoders.unpacked(json.loads(answer))


def measure(name: str, n: int) -> list[Row]:
    """Rows of both nights."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="microrec-memory-") as text:
        folder = Path(text)
        if name == "words":
            words_world(folder, n)
        else:
            kind = "cover" if name == "covers" else "video"
            files_world(folder, n, kind, 0.25 if name == "covers" else FILM_SECONDS)
        for night, day in zip(("first night", "night after"), DAYS, strict=True):
            measured = peaks(folder, day, stand_in="not decoded" in name)
            for part, unit in (("job", "MB"), ("decoder", "MB"), ("seconds", "s")):
                metric = f"{night}, {part}"
                rows.append(row(BENCHMARK, f"{n:,}", metric, name, measured[part], unit=unit))
    return rows


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, nargs="*", default=[8_000, 32_000, 128_000])
    parser.add_argument("--files", type=int, nargs="*", default=[100, 400])
    parser.add_argument("--stood-in", type=int, nargs="*", default=[2_000, 8_000, 32_000])
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--job", type=dt.date.fromisoformat, help=argparse.SUPPRESS)
    parser.add_argument("--stand-in", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        run_job(arguments.job, stand_in=arguments.stand_in)
        return
    logging.basicConfig(level=logging.ERROR)
    sizes = {
        "words": arguments.words,
        "covers": arguments.files,
        "films": arguments.files,
        "films, not decoded": arguments.stood_in,
    }
    rows = [each for name, several in sizes.items() for n in several for each in measure(name, n)]
    report.write(rows, arguments.out)


if __name__ == "__main__":
    main()
