"""A folder that is not ours is refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from microrec.core import fitted
from microrec.core.fitted import Trained
from microrec.errors import ContractViolation


class Config(BaseModel):
    dim: int = 2


LISTS = fitted.NeighbourLists(
    axis="user",
    indptr=np.array([0, 1, 1]),
    neighbour=np.array([1], dtype=np.int32),
    similarity=np.array([0.5], dtype=np.float32),
    history_decay=0.5,
)


def test_header_states_what_was_made(tmp_path: Path) -> None:
    fitted.save(Trained(LISTS, {"pairs": 1}), tmp_path / "a" / "b", config=Config())
    assert json.loads((tmp_path / "a" / "b" / "model.json").read_text()) == {
        "format": 2,
        "kind": "NeighbourLists",
        "axis": "user",
        "history_decay": 0.5,
        "config": {"dim": 2},
        "report": {"pairs": 1},
    }


@pytest.mark.parametrize("change", [{"format": 3}, {"kind": "Tree"}])
def test_load_other_format_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    fitted.save(Trained(LISTS, {}), tmp_path, config=Config())
    header = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**header, **change}))
    with pytest.raises(ContractViolation, match="not known here"):
        fitted.load(tmp_path)


def test_load_lists_of_format_1_do_not_decay(tmp_path: Path) -> None:
    fitted.save(Trained(LISTS, {}), tmp_path, config=Config())
    assert fitted.load(tmp_path).history_decay == 0.5
    header = json.loads((tmp_path / "model.json").read_text())
    del header["history_decay"]
    (tmp_path / "model.json").write_text(json.dumps({**header, "format": 1}))
    assert fitted.load(tmp_path).history_decay == 1


def test_save_report_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        fitted.save(Trained(LISTS, {"loss": float("nan")}), tmp_path, config=Config())


def test_parameters_saved_and_loaded_are_bit_identical(tmp_path: Path) -> None:
    learned = {
        "branches.0.weight": np.arange(6, dtype=np.float32).reshape(3, 2).T,  # not contiguous
        "user_id": np.full((2, 3), np.pi, dtype=np.float32),
    }
    for folder in (tmp_path / "one", tmp_path / "two"):
        fitted.save(Trained(LISTS, {}, learned), folder, config=Config())
    found = fitted.load_parameters(tmp_path / "one")
    assert set(found) == set(learned)
    for name, value in learned.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
    one, two = (tmp_path / n / fitted.PARAMETERS for n in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    fitted.save(Trained(LISTS, {}), tmp_path / "none", config=Config())
    assert {path.name for path in (tmp_path / "none").iterdir()} == {
        "arrays.safetensors",
        "model.json",
    }
    assert fitted.load_parameters(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("label", "entry"),
    [
        ([], {}),
        ([True, False], {}),
        ([True] * 3, {"only_label": True}),
        ([False], {"only_label": False}),
    ],
)
def test_report_tells_of_labels_of_one_kind(label: list[bool], entry: dict[str, bool]) -> None:
    assert fitted.only_label(np.array(label, dtype=np.bool_)) == entry
