"""A folder that is not ours is refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from microrec.errors import ContractViolation
from microrec.models import fitted


class Config(BaseModel):
    dim: int = 2


LISTS = fitted.NeighbourLists(
    axis="user",
    indptr=np.array([0, 1, 1]),
    neighbour=np.array([1], dtype=np.int32),
    similarity=np.array([0.5], dtype=np.float32),
)


def test_header_says_what_was_made(tmp_path: Path) -> None:
    fitted.save(LISTS, tmp_path / "a" / "b", config=Config(), report={"pairs": 1})
    assert json.loads((tmp_path / "a" / "b" / "model.json").read_text()) == {
        "format": 1,
        "kind": "NeighbourLists",
        "axis": "user",
        "config": {"dim": 2},
        "report": {"pairs": 1},
    }


@pytest.mark.parametrize("change", [{"format": 2}, {"kind": "Tree"}])
def test_refuses_another_format(tmp_path: Path, change: dict[str, object]) -> None:
    fitted.save(LISTS, tmp_path, config=Config(), report={})
    header = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**header, **change}))
    with pytest.raises(ContractViolation, match="not known here"):
        fitted.load(tmp_path)


def test_refuses_a_report_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        fitted.save(LISTS, tmp_path, config=Config(), report={"loss": float("nan")})
