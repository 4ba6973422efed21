"""Rows as of their cuts, lists one after the other, rectangles of their latest ends."""

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from microrec.core import days
from microrec.errors import ContractViolation, RecipeError
from microrec.models.inputs.graph_arrays import build_graph
from microrec.models.inputs.sequence_arrays import Sequences, Steps, build
from tests.worlds import logs

DAY_US = logs.DAY_US
CUTS = {"trial": logs.D * DAY_US, "final": (logs.D + 1) * DAY_US}
WORLD = logs.viewings(3)
SEQUENCES, EXPOSURES = WORLD["sequences"], WORLD["exposures"]
N_USERS = WORLD["users"].num_rows


def micros(column: Any) -> np.ndarray:
    return column.cast(pa.int64()).to_numpy()


def sequences(fit: str, world: dict[str, pa.Table] = WORLD) -> Sequences:
    return build(world, fit=fit, n_users=N_USERS)


def lists(steps: Steps, row: int) -> list[tuple[int, int, float]]:
    span = slice(*steps.indptr[row : row + 2])
    columns = (steps.video_idx[span], steps.at[span], steps.weight[span])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def with_column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, pa.array(values, table.schema.field(name).type))


def pushed(table: pa.Table, name: str, value: int) -> pa.Table:
    """The same table, its first row with another value."""
    return with_column(table, name, [value, *table[name].to_pylist()[1:]])


@pytest.mark.parametrize("fit", CUTS)
def test_rows_equal_the_tables(fit: str) -> None:
    user_sequences = sequences(fit)
    expected = {}
    cuts = micros(SEQUENCES["cut_at"]).tolist()
    for cut, row in zip(cuts, SEQUENCES.to_pylist(), strict=True):
        if cut <= CUTS[fit]:
            expected[cut, row["user_idx"]] = row
    assert list(
        zip(user_sequences.cut_at.tolist(), user_sequences.user_idx.tolist(), strict=True)
    ) == sorted(expected)
    for place, key in enumerate(sorted(expected)):
        row = expected[key]
        for steps, name in ((user_sequences.history, "history"), (user_sequences.future, "future")):
            given = [
                (one["video_idx"], round(one["at"].timestamp() * 1e6), one.get("weight", 1.0))
                for one in row[name]
            ]
            assert lists(steps, place) == [(v, at, np.float32(w)) for v, at, w in given]
    assert user_sequences.history.indptr[-1] == len(user_sequences.history.video_idx)


@pytest.mark.parametrize("fit", CUTS)
def test_sequences_exclude_events_from_their_cut_on(fit: str) -> None:
    user_sequences = sequences(fit)
    assert user_sequences.cut_at.max() == CUTS[fit]
    for steps in (user_sequences.history, user_sequences.future):
        of_row = np.repeat(user_sequences.cut_at, np.diff(steps.indptr))
        assert len(of_row) > 1000
        assert (steps.at < of_row).all()
    shown = user_sequences.exposures
    assert (shown.at < CUTS[fit]).all()
    assert (user_sequences.cut_at[shown.row] == shown.at // DAY_US * DAY_US).all()


@pytest.mark.parametrize("fit", CUTS)
def test_exposures_are_all_that_the_fit_sees(fit: str) -> None:
    exposures = sequences(fit).exposures
    table = EXPOSURES
    at = micros(table["started_at"])
    user, video = table["user_idx"].to_numpy(), table["video_idx"].to_numpy()
    label = np.array(table["feedback"].to_pylist()) == "positive"
    order = [place for place in np.lexsort((video, user, at)) if at[place] < CUTS[fit]]
    for name, column in (("at", at), ("user_idx", user), ("video_idx", video), ("label", label)):
        np.testing.assert_array_equal(getattr(exposures, name), column[order])
    rows = sequences(fit)
    np.testing.assert_array_equal(rows.user_idx[exposures.row], exposures.user_idx)
    assert 0 < exposures.label.mean() < 1
    assert {"neutral", "negative"} <= set(table["feedback"].to_pylist())


def test_exposures_that_never_started_are_left_out() -> None:
    feedback = EXPOSURES["feedback"].to_pylist()
    passed = [*["not_started"] * 200, *feedback[200:]]
    found = sequences("final", {**WORLD, "exposures": with_column(EXPOSURES, "feedback", passed)})
    kept = sequences("final", {**WORLD, "exposures": EXPOSURES.slice(200)})
    assert len(found.exposures) == len(feedback) - 200
    for name in ("row", "at", "user_idx", "video_idx", "label"):
        np.testing.assert_array_equal(getattr(found.exposures, name), getattr(kept.exposures, name))


@pytest.mark.parametrize("fit", CUTS)
def test_served_users_are_read_at_the_last_cut(fit: str) -> None:
    user_sequences = sequences(fit)
    assert user_sequences.user_idx[user_sequences.serving].tolist() == list(range(N_USERS))
    assert (user_sequences.cut_at[user_sequences.serving] == CUTS[fit]).all()


def test_trial_last_day_is_its_validation() -> None:
    user_sequences = sequences("trial")
    start = CUTS["trial"] - DAY_US
    assert user_sequences.validation is not None
    assert user_sequences.validated_from == start
    assert len(user_sequences.training) + len(user_sequences.validation) == len(
        user_sequences.exposures
    )
    assert (user_sequences.validation.at >= start).all()
    assert (user_sequences.training.at < start).all()
    assert len(user_sequences.training) > 500
    assert len(user_sequences.validation) > 300


def test_final_fit_has_no_validation() -> None:
    user_sequences = sequences("final")
    assert user_sequences.validation is None
    assert user_sequences.validated_from is None
    assert len(user_sequences.training) == len(user_sequences.exposures)


def test_exposures_without_any_have_no_validation_day() -> None:
    user_sequences = sequences("trial", {**WORLD, "exposures": EXPOSURES.slice(0, 0)})
    assert user_sequences.validation is not None
    assert user_sequences.validated_from is None
    assert len(user_sequences.training) == len(user_sequences.exposures) == 0


@pytest.mark.parametrize("fit", CUTS)
def test_sequences_any_row_order_is_equal(fit: str) -> None:
    one, other = sequences(fit), sequences(fit, logs.shuffled(WORLD, 5))
    for name in ("cut_at", "user_idx", "serving"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for part in ("history", "future", "exposures"):
        for name, values in vars(getattr(one, part)).items():
            np.testing.assert_array_equal(values, getattr(getattr(other, part), name))


def steps(*rows: list[int]) -> Steps:
    """Lists of videos; the i-th viewing is at instant 10 i and weighs i / 8."""
    flat = [video for row in rows for video in row]
    return Steps(
        indptr=np.cumsum([0, *map(len, rows)]),
        video_idx=np.array(flat, dtype=np.int32),
        at=10 * np.arange(len(flat)),
        weight=np.arange(len(flat), dtype=np.float32) / 8,
    )


def test_padded_equals_hand_computed() -> None:
    actual = steps([5, 6, 7], [], [8], [9, 1]).padded(np.array([3, 0, 1]), 100)
    assert actual.video_idx.tolist() == [[0, 9, 1], [5, 6, 7], [0, 0, 0]]
    assert actual.present.tolist() == [[False, True, True], [True] * 3, [False] * 3]
    assert actual.at.tolist() == [[0, 40, 50], [0, 10, 20], [0, 0, 0]]
    assert actual.weight.tolist() == [[0, 0.5, 0.625], [0, 0.125, 0.25], [0, 0, 0]]


def test_padded_keeps_the_latest() -> None:
    actual = steps([5, 6, 7], [8]).padded(np.array([0, 1]), 2)
    assert actual.video_idx.tolist() == [[6, 7], [0, 8]]
    assert actual.present.tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize(("rows", "shape"), [([0, 1], (2, 1)), ([], (0, 1))])
def test_padded_without_a_step_is_empty(rows: list[int], shape: tuple[int, int]) -> None:
    actual = steps([], []).padded(np.array(rows, dtype=np.int64), 4)
    for array in vars(actual).values():
        assert array.shape == shape
        assert not array.any()


def test_seen_before_a_cut_equals_expected() -> None:
    actual = steps([5, 6, 7], [], [8], [9, 1]).before(40)
    assert [lists(actual, row) for row in range(4)] == [
        [(5, 0, 0.0), (6, 10, 0.125), (7, 20, 0.25)],
        [],
        [(8, 30, 0.375)],
        [],
    ]
    none = steps([5, 6], [7]).before(0)
    assert none.indptr.tolist() == [0, 0, 0]
    assert not len(none.video_idx)


def test_sequences_of_an_earlier_instant_are_the_same_rows() -> None:
    now = sequences("trial")
    start = CUTS["trial"] - DAY_US
    earlier = now.before(start)
    assert earlier.cut_at is now.cut_at
    # A user who was shown something on the validation day has a row as of its start.
    then = {int(user): row for row, user in enumerate(now.user_idx) if now.cut_at[row] == start}
    assert len(then) > 50
    for user, row in then.items():
        served = int(now.serving[user])
        assert lists(earlier.history, served) == lists(now.history, row)
        future = lists(now.future, served)
        assert lists(earlier.future, served) == [one for one in future if one[1] < start]


LAST = pc.equal(SEQUENCES["cut_at"].cast(pa.int64()), CUTS["final"])
OUTSIDE = [[{"video_idx": 90, "at": 0}], *SEQUENCES["history"].to_pylist()[1:]]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sequences": SEQUENCES.filter(LAST)}, "1 cuts, a night has two or more"),
        ({"sequences": SEQUENCES.slice(0, SEQUENCES.num_rows - 1)}, "no row for 1 of 60 users"),
        ({"sequences": SEQUENCES.slice(1)}, r"no row for \d+ of 1398 exposures"),
        (
            {"sequences": with_column(SEQUENCES, "history", OUTSIDE)},
            "sequences: .* 90 nodes, 1 rows",
        ),
        ({"exposures": pushed(EXPOSURES, "video_idx", 90)}, "exposures: .* 90 nodes, 1 rows"),
        ({"exposures": pushed(EXPOSURES, "video_idx", -1)}, "exposures: .* 90 nodes, 1 rows"),
        ({"exposures": pushed(EXPOSURES, "user_idx", 60)}, "no row for 1 of 1398 exposures"),
    ],
)
def test_sequences_mismatched_tables_are_refused(changed: dict[str, pa.Table], words: str) -> None:
    with pytest.raises(ContractViolation, match=words):
        sequences("final", {**WORLD, **changed})


def test_sequences_unknown_user_is_refused() -> None:
    with pytest.raises(ContractViolation, match=r"sequences: .* 59 nodes, 2 rows"):
        build({**WORLD, "exposures": EXPOSURES.slice(0, 0)}, fit="final", n_users=59)


def test_sequences_other_fit_is_refused() -> None:
    with pytest.raises(RecipeError, match="fit 'test' is not one of trial, final"):
        sequences("test")


def test_graph_has_sequences_if_tables_are_given() -> None:
    without = {name: rows for name, rows in WORLD.items() if name != "exposures"}
    assert build_graph(without, fit="trial").sequences is None
    user_sequences = build_graph(WORLD, fit="trial").sequences
    assert user_sequences is not None
    assert len(user_sequences.exposures) == len(sequences("trial").exposures)


def test_rows_of_cuts_in_one_utc_day_are_told_apart() -> None:
    """London, 29 March 2026: the day begins at 00:00 UTC, the next one at 23:00 UTC."""
    at = [days.start(dt.date(2026, 3, day), "Europe/London") for day in (28, 29, 30, 31)]
    moved = dict(zip(np.unique(micros(SEQUENCES["cut_at"]))[-4:].tolist(), at, strict=True))
    if len(moved) < 4:
        pytest.fail("the world has too few cuts")
    tables = {**WORLD}
    for name in ("sequences", "exposures"):
        kept = WORLD[name].filter(
            pc.is_in(WORLD[name]["cut_at"].cast(pa.int64()), pa.array(list(moved)))
        )
        cut_at = [moved[cut] for cut in micros(kept["cut_at"]).tolist()]
        kept = with_column(kept, "cut_at", cut_at)
        if name == "exposures":
            kept = with_column(kept, "started_at", [cut + dt.timedelta(hours=1) for cut in cut_at])
        tables[name] = kept
    found = sequences("final", tables)
    shown = found.exposures
    assert (shown.at - found.cut_at[shown.row] == 3_600_000_000).all()
    assert (found.user_idx[shown.row] == shown.user_idx).all()
