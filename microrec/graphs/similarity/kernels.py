"""The compiled kernels, all of them: `microrec warm` has them compiled once per installation."""

import numpy as np
from scipy.sparse import csr_matrix

from microrec.graphs.similarity import cells, cosine, pearson


def compile_kernels() -> None:
    """Run a few rows through every kernel, so that numba keeps their machine code on disk."""
    few = np.eye(4, 9) + np.eye(4, 9, k=1)
    for signal in ("binary", "weight"):
        pearson.lists(csr_matrix(few), config=pearson.Config(k=2, signal=signal))
    cosine.lists(few, k=2)
    cells.lists(few.astype(np.float32), k=2)
