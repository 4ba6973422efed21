"""The fault matrix of a night: every job killed at every point, late attempts, a full disk.

A small planted world is run twice, undisturbed: first as its producers delivered it at first, with a tenth of the rows
missing (`before`), then as they delivered it in the end (`after`). Then the same is walked through job by job with
faults: into a warehouse that does not know the day, and into one that has the first delivery and its release. What
every partition must hold is known at each moment, by digest: what it held, or what the undisturbed night wrote.
"""

import contextlib
import dataclasses
import datetime as dt
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from microrec.config.settings import HOME, settings
from microrec.errors import MissingDay
from microrec.landing import write
from microrec.release import reader
from microrec.runner.exit_status import ExitStatus
from microrec.synth.world import Config, Part, generate
from microrec.tables.arrow import Warehouse
from microrec.tables.commit import Scope, Table
from tests import fault_points
from tests.worlds.nights import call

pytestmark = [pytest.mark.faults, pytest.mark.spark, pytest.mark.slow]

DAYS = 4
FIRST = dt.date(2026, 1, 1)
DAY = FIRST + dt.timedelta(days=DAYS - 1)
PATIENCE = 600
LAUNCHER = Path(fault_points.__file__)

RECIPE = f"""
[night]
window_days = {DAYS}
k = 10
models = ["popularity", "video_neighbours", "multi_trend"]
rankers = ["clip_interest", "rates"]

[models.multi_trend]
dim = 8
max_epochs = 2

[models.clip_interest]
dim = 8
max_epochs = 2

[candidates.hybrid] # the final fit's blend learns from the night's own held-out day
least_nights = 1
least_positives = 20
least_in_leaf = 20

[evaluation.gate] # a world so small proves nothing
better_than_popularity = -1.0
"""

MODELS = ("popularity", "video_neighbours", "multi_trend")
RANKERS = ("clip_interest", "rates")


class Call(NamedTuple):
    """One task of the night."""

    job: str
    fit: str | None = None
    model: str | None = None

    def __str__(self) -> str:
        return "-".join(word for word in self if word)

    @property
    def options(self) -> dict[str, Any]:
        forced = self.job == "plan_night"
        named = {"fit": self.fit, "model": self.model, "force": forced}
        return {name: value for name, value in named.items() if value}

    @property
    def words(self) -> list[str]:
        """The options as a command has them."""
        pairs = [(f"--{name}", value) for name, value in self.options.items()]
        return [word for pair in pairs for word in pair if word is not True]


def fitted(fit: str) -> list[Call]:
    return [
        *(Call("train_model", fit, model) for model in (*MODELS, *RANKERS)),
        *(Call("select_candidates", fit, model) for model in MODELS),
        *(Call("rank_candidates", fit, model) for model in RANKERS),
        Call("blend_candidates", fit),
    ]


NIGHT = [
    Call("plan_night"),
    Call("validate_events"),
    Call("extract_features"),
    Call("build_watch_graph"),
    Call("build_modality_graph"),
    Call("build_user_graph"),
    Call("count_exposures"),
    Call("build_sequences"),
    *fitted("trial"),
    Call("evaluate_sources"),
    *fitted("final"),
    Call("select_recommendations"),
    Call("describe_trends"),
    Call("describe_clips"),
    Call("check_recommendations"),
    Call("publish_release"),
]
CLOSED_FORM = Call("train_model", "trial", "video_neighbours")
IN_EPOCHS = Call("train_model", "trial", "multi_trend")
SELECT = Call("select_candidates", "trial", "multi_trend")
RANK = Call("rank_candidates", "trial", "clip_interest")
LEARNED = Call("blend_candidates", "final")
KILLED = [
    one
    for one in NIGHT
    if one in (CLOSED_FORM, IN_EPOCHS, SELECT, RANK, LEARNED) or one.fit is None
]
"""Every job of the night; `train_model` in closed form and in epochs."""
SAVING = (CLOSED_FORM, IN_EPOCHS, LEARNED)
"""Those that save an artefact."""

Place = tuple[str, str]
"""A table, and partition values as Delta names them: `day=2026-01-04/fit=trial`."""
Writes = dict[Call, list[tuple[str, list[Scope]]]]
"""What each task commits, in order."""
State = dict[Place, str]
"""The digest of each place that a night writes."""
MISSING = "missing"


def place_of(table: str, scope: Scope) -> Place:
    return table, "/".join(f"{name}={value}" for name, value in scope.items())


def state(warehouse: Warehouse, places: list[Place]) -> State:
    """What readers find now. A release is known by its id: its versions differ with the number of commits."""
    found = {}
    for table, path in places:
        scope = dict(word.split("=", 1) for word in path.split("/"))
        try:
            found[table, path] = warehouse.digest(table, **scope)
            if table == "releases":
                found[table, path] = reader.of(DAY, warehouse.root).id
        except MissingDay:
            found[table, path] = MISSING
    return found


@contextlib.contextmanager
def recorded(writes: list[tuple[str, list[Scope]]]) -> Iterator[None]:
    """Note what is committed in this process."""
    commit = Table.commit

    def noted(self: Table, staged, scopes, author, made_with=()):  # type: ignore[no-untyped-def]
        version = commit(self, staged, scopes, author, made_with)
        writes.append((self.contract.table, list(scopes)))
        return version

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "commit", noted)
        yield


@contextlib.contextmanager
def settled(root: Path, landing_root: Path, *, attempt: int = 1) -> Iterator[None]:
    """Jobs called in this process work there, as an attempt of one run."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(root, landing_root, attempt=attempt).items():
            patch.setenv(name, value)
        settings.cache_clear()
        yield
    settings.cache_clear()


def environment(root: Path, landing_root: Path, *, attempt: int = 1) -> dict[str, str]:
    return {
        "MICROREC_WAREHOUSE": str(root),
        "MICROREC_LANDING": str(landing_root),
        "MICROREC_RECIPE": str(landing_root.parent / "recipe.toml"),
        "MICROREC_RUN_ID": f"night-of-{DAY}",
        "MICROREC_ATTEMPT": str(attempt),
    }


def first_delivery(part: Part) -> Part:
    """A tenth of the rows is not there yet; of interactions, of the last day's."""
    if part.rows is None or (part.table == "raw_interactions" and part.day != DAY):
        return part
    there = pa.array(np.arange(part.rows.num_rows) % 10 > 0)
    return dataclasses.replace(part, rows=part.rows.filter(there))


@dataclasses.dataclass
class Night:
    """A night that nothing disturbed."""

    landing_root: Path
    root: Path
    writes: Writes
    state: State


@dataclasses.dataclass
class Nights:
    """The first delivery's night in an empty warehouse, and on it that of the second."""

    place: Path
    before: Night
    after: Night


def undisturbed(landing_root: Path, root: Path) -> Night:
    writes: Writes = {}
    with settled(root, landing_root):
        for one in NIGHT:
            with recorded(writes.setdefault(one, [])):
                call(one.job, DAY, **one.options)
        places = {place_of(t, s) for made in writes.values() for t, scopes in made for s in scopes}
        return Night(landing_root, root, writes, state(Warehouse.open(), sorted(places)))


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory, spark: object) -> Nights:
    """Both, undisturbed."""
    place = tmp_path_factory.mktemp("faults")
    (place / "recipe.toml").write_text(RECIPE)
    config = Config(users=100, videos=100, days=DAYS, first_day=FIRST, formats=("parquet",))
    world = generate(config, np.random.default_rng(3))
    write.write_world(str(place / "second"), world.parts)
    first = [first_delivery(part) for part in world.parts]
    filled = [part for part in first if part.rows is None or part.rows.num_rows]
    write.write_world(str(place / "first"), filled)
    before = undisturbed(place / "first", place / "before")
    shutil.copytree(place / "before", place / "after")
    return Nights(place, before, undisturbed(place / "second", place / "after"))


class Walk:
    """A night that goes on task by task, disturbed now and then; it knows what must be found at each moment."""

    def __init__(self, root: Path, goal: Night, start: Night | None) -> None:
        self.root, self.goal = root, goal
        if start is not None:
            shutil.copytree(start.root, self.root)
        self.expected = dict.fromkeys(goal.state, MISSING)
        if start is not None:
            self.expected |= start.state
        self.done: list[Call] = []
        self.processes: list[Process] = []
        self.latest = reader.latest(str(self.root)).id if start is not None else None

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse.open(str(self.root))

    def reach(self, task: Call) -> None:
        """Run what comes before a task and was not run yet."""
        for one in NIGHT[: NIGHT.index(task)]:
            if one not in self.done:
                self.run(one)

    def run(self, task: Call, *, attempt: int = 1) -> None:
        """A task that nothing disturbs."""
        with settled(self.root, self.goal.zone, attempt=attempt):
            call(task.job, DAY, **task.options)
        self.wrote(task, None)
        self.done.append(task)

    def tables(self, task: Call) -> list[str]:
        return [table for table, _ in self.goal.writes[task]]

    def wrote(self, task: Call, until: int | None) -> None:
        """A task has committed its first so many tables."""
        for table, scopes in self.goal.writes[task][:until]:
            for place in (place_of(table, scope) for scope in scopes):
                self.expected[place] = self.goal.state[place]
        if "releases" in self.tables(task)[:until]:
            self.latest = self.goal.state["releases", f"day={DAY}"]

    def check(self) -> None:
        """Readers find what they must, every model can be opened, and the latest release is whole."""
        found = state(self.warehouse, list(self.expected))
        unlike = {place: found[place] for place in found if found[place] != self.expected[place]}
        assert not unlike, "neither the old rows nor those of the undisturbed night"
        if self.warehouse.exists("models", day=DAY):
            for row in self.warehouse.read("models", day=DAY).to_pylist():
                self.warehouse.open_artefact(row["path"], row["digest"])
        if self.latest is None:
            assert reader.days(str(self.root)) == []
        else:
            release = reader.latest(str(self.root))
            assert release.id == self.latest
            release.verify()

    def start(self, task: Call, *launched: str) -> "Process":
        """The task as a process, attempt 1; launched as `fault_points.py` with these words, if any."""
        job = [*launched, task.job] if launched else [f"jobs.{task.job}"]
        words = [str(LAUNCHER) if launched else "-m", *job, "--day", str(DAY), *task.words]
        here = environment(self.root, self.goal.zone)
        self.processes.append(Process(words, here, self.goal.root.parent))
        return self.processes[-1]

    def killed(self, task: Call, moment: str, table: str) -> None:
        process = self.start(task, "kill", moment, table)
        assert process.ended() == -signal.SIGKILL, process.said()

    def close(self) -> None:
        for process in self.processes:
            process.close()


class Process:
    """A job in a session of its own, and what it says."""

    def __init__(self, words: list[str], here: dict[str, str], place: Path) -> None:
        self.log = place / "process.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=HOME,
                env={**os.environ, **here, "PYTHONPATH": str(HOME)},  # this checkout
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended(self) -> int:
        return self.process.wait(PATIENCE)

    def stopped(self) -> None:
        """Wait until it has stopped itself."""
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"it ended and never stopped\n{self.said()}"

    def goes_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    def last_line(self) -> str:
        """What an operator is told."""
        return self.log.read_text(errors="replace").splitlines()[-1]


@pytest.fixture(scope="module")
def again(nights: Nights) -> Iterator[Walk]:
    """The second delivery, into a warehouse that has the first and its release."""
    with contextlib.closing(Walk(nights.place / "again", nights.after, nights.before)) as walk:
        yield walk


@pytest.fixture(scope="module")
def anew(nights: Nights) -> Iterator[Walk]:
    """The first delivery, into a warehouse that knows no day."""
    with contextlib.closing(Walk(nights.place / "anew", nights.before, None)) as walk:
        yield walk


def test_faults_cover_every_job() -> None:
    there = {path.stem for path in (HOME / "jobs").glob("*.py")} - {"__init__"}
    # `erase` is killed in tests/privacy/test_erasure.py; `report_night` commits no table (tests/tables/test_pages.py).
    assert {one.job for one in KILLED} == there - {"erase", "report_night"}


def test_faults_old_and_new_rows_differ(nights: Nights) -> None:
    """Of every task the second delivery changes something; and the learned blend is learned."""
    old, new = nights.before.state, nights.after.state
    for task in KILLED:
        written = [place_of(t, s) for t, scopes in nights.after.writes[task] for s in scopes]
        assert any(old.get(place) != new[place] for place in written), task
    blend = Warehouse.open(str(nights.after.root)).read("blend_weights", day=DAY, fit="final")
    assert set(blend["method"].to_pylist()) == {"learned"}


@pytest.mark.parametrize("task", KILLED, ids=str)
def test_job_killed_at_any_point_leaves_whole_days_and_rerun_repairs(
    again: Walk, task: Call
) -> None:
    again.reach(task)
    tables = again.tables(task)
    middle = len(tables) // 2
    points = [("staged", 0, 0), ("audited", middle, middle), ("committed", -1, len(tables))]
    if task in SAVING:
        points.insert(0, ("saving", 0, 0))
    for moment, number, committed in points:
        again.killed(task, moment, tables[number])
        again.wrote(task, committed)
        again.check()
    again.run(task)
    again.check()


def after_its_first_table(walk: Walk, task: Call) -> None:
    """Killed when one of its tables has the day and the others do not."""
    tables = walk.tables(task)
    assert len(tables) > 1
    walk.killed(task, "committed", tables[0])
    walk.wrote(task, 1)


def half_an_artefact(walk: Walk, task: Call) -> None:
    """Killed while it saves what it has learned."""
    walk.killed(task, "saving", "models")
    (half,) = walk.root.glob(f"artefacts/day={DAY}/*/model={task.model}/_staging-*")
    assert sorted(half.iterdir())


def woken_late(walk: Walk, task: Call) -> None:
    """Attempt 1 has read the log of its last table and is stopped; attempt 2 does it all; attempt 1 goes on."""
    tables = walk.tables(task)
    late = walk.start(task, "stop", "fenced", tables[-1])
    late.stopped()
    walk.run(task, attempt=2)
    versions = {table: walk.warehouse.version(table) for table in tables}
    late.goes_on()
    assert late.ended() == ExitStatus.DATA_ERROR, late.said()
    assert "CommitConflict: " in late.last_line()
    assert f"attempt 1 of run night-of-{DAY} is late" in late.last_line()
    assert {table: walk.warehouse.version(table) for table in tables} == versions


ON_A_NEW_DAY = [
    (Call("validate_events"), after_its_first_table),
    (Call("validate_events"), woken_late),
    (Call("build_watch_graph"), after_its_first_table),
    (Call("build_modality_graph"), after_its_first_table),
    (Call("build_user_graph"), after_its_first_table),
    (Call("build_user_graph"), woken_late),
    (Call("build_sequences"), after_its_first_table),
    (IN_EPOCHS, half_an_artefact),
    (IN_EPOCHS, woken_late),
    (SELECT, woken_late),
    (Call("evaluate_sources"), after_its_first_table),
    (LEARNED, after_its_first_table),
    (Call("select_recommendations"), after_its_first_table),
    (Call("select_recommendations"), woken_late),
    (Call("describe_clips"), after_its_first_table),
    (Call("publish_release"), after_its_first_table),
    (Call("publish_release"), woken_late),
]


@pytest.mark.parametrize(
    ("task", "fault"), ON_A_NEW_DAY, ids=lambda one: str(getattr(one, "__name__", one))
)
def test_exists_after_a_kill_is_definite(
    anew: Walk, task: Call, fault: Callable[[Walk, Call], None]
) -> None:
    anew.reach(task)
    fault(anew, task)
    anew.check()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB."""
    words = ["-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    "task", [Call("build_user_graph"), IN_EPOCHS, Call("select_recommendations")], ids=str
)
def test_full_disk_is_reported_and_the_old_day_stays(
    nights: Nights, disk: Path, task: Call
) -> None:
    """Full before the job begins, and full when its rows are staged and the log is still to be written."""
    with contextlib.closing(Walk(disk / "house", nights.after, nights.after)) as walk:
        ballast, table = walk.root / fault_points.BALLAST, walk.tables(task)[0]
        fault_points.fill_disk(walk.root)
        for launched in ((), ("fill", "audited", table)):
            process = walk.start(task, *launched)
            assert process.ended() == 1, process.said()
            said = re.search(r" ERROR microrec\.runner\.job (\w+: .*)$", process.last_line())
            assert said is not None, process.said()
            assert "No space left on device" in said[1]
            walk.check()
            ballast.unlink()
        walk.run(task)
        walk.check()
