"""What a dislike does: it takes back what the same user felt about the same video before it, and nothing later.

Within a day `graphs.watch` applies the rule to single viewings (`split.with_undone`). Across the splits of a window it
is applied here, because a fit may not know of a dislike in a split it does not see.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.array_types import Bools
from microrec.core.columns import column
from microrec.core.fits import SPLITS
from microrec.core.pairs import pack


def standing(edges: pa.Table) -> Bools:
    """Return which edges keep their weight and positives: no later split of their pair undoes them.

    Args:
        edges: rows of `watch_edges`, those of the splits a fit sees.

    Returns:
        True where the edge's split is the last undone one of its pair, or comes after it. [n_edges]
    """
    order = pc.index_in(edges["split"], value_set=pa.array(SPLITS))
    split = column(pa.table({"split": order}), "split")
    undone = column(edges, "undone")
    pairs, pair = np.unique(
        pack(column(edges, "user_idx"), column(edges, "video_idx")), return_inverse=True
    )
    last_undone = np.zeros(len(pairs), dtype=np.int64)
    np.maximum.at(last_undone, pair[undone], split[undone])
    return np.asarray(split >= last_undone[pair], dtype=np.bool_)
