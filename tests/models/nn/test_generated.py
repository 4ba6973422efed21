"""Files that PyG generates for layers are gone when the layers are built, and nothing else of the folder is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from microrec.config.settings import HOME
from microrec.models.nn.generated import without_source

BUILT = """
import torch
from torch_geometric.nn import SimpleConv
from microrec.models.graph.propagation import Adjacency, AdjacencyConv
from microrec.models.nn.generated import without_source

{layers}
x = torch.eye(2)
graph = torch.ones(2, 2).to_sparse_csr()
for _ in range(2):
    assert AdjacencyConv()(x, Adjacency(graph, graph)).tolist() == [[1, 1], [1, 1]]
"""
OURS = "without_source(SimpleConv())(torch.eye(2), torch.tensor([[0, 1], [1, 0]]))"


@pytest.mark.heavy
@pytest.mark.parametrize(("layers", "left"), [(OURS, 0), ("SimpleConv()", 1)])
def test_layers_leave_no_generated_file(layers: str, left: int, tmp_path: Path) -> None:
    """The second says that PyG still leaves one, and that the test would see it."""
    (tmp_path / "of_somebody_propagate_else.py").write_text("kept")
    command = [sys.executable, "-W", "ignore", "-c", BUILT.format(layers=layers)]
    here = {**os.environ, "TMPDIR": str(tmp_path)}
    ended = subprocess.run(command, cwd=HOME, env=here, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(list(tmp_path.glob("*.py"))) == 1 + left


def test_layer_that_nothing_was_generated_for_stays_as_it_is() -> None:
    layer = nn.Linear(1, 1)
    assert without_source(layer) is layer
