"""What is tried: per model the values of each field of its Config, declared before anything is run.

A configuration is one value of every field; fields not named keep the Config's default. The Config
as it stands is always the first configuration, the others are drawn from the product of the values
without repetition. A name that starts with `GRAPH` is a field of the benchmark's `GraphConfig`: how
the graphs between videos and between users are built.
"""

from itertools import product
from typing import Any

GRAPH = "graph."

CENTRED = [(), ("visual",), ("visual", "acoustic")]
CAPS = [None, 5, 20, 400]
"""Most videos of a user who counts for a similarity of videos; 400 keeps some of the 103 who watch
everything, None is the Config's rule: 20 times the median."""

NETWORK: dict[str, list[Any]] = {
    "loss": ["bpr", "softmax"],
    "l2": [0.0, 1e-4, 1e-2],
    "learning_rate": [1e-3, 3e-3],
    "batch_size": [512, 1024],
    "patience": [8],
}
"""Shared by the graph networks."""

SPACES: dict[str, dict[str, list[Any]]] = {
    "popularity": {},
    "content": {
        "weights": [
            {"visual": visual, "acoustic": acoustic}
            for visual, acoustic in ((1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (1.0, 0.0), (0.0, 1.0))
        ],
        "centre": CENTRED,
    },
    "user_neighbours": {
        "similarity": ["pearson", "cosine"],
        "top_k": [50, 200, 1000],
        "shrinkage": [0.0, 1.0, 5.0],
        f"{GRAPH}k_users": [1000],
        f"{GRAPH}min_common": [1, 2],
    },
    "video_neighbours": {
        "top_k": [100, 200, 500, 1000],
        "activity_cap": CAPS,
        "alpha": [0.0, 0.1, 0.25, 0.5],
        "shrinkage": [0.0, 10.0, 100.0, 1000.0],
        "tie_break": [0.0, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2],
    },
    "ease": {
        "l2": [10.0, 100.0, 300.0, 1000.0, 3000.0],
        "tie_break": [0.0, 0.03, 0.1, 0.3, 1.0],
        "top_k": [200, 1000],
        "activity_cap": CAPS,
    },
    "rp3beta": {
        "alpha": [0.0, 0.2, 0.4, 0.7, 1.0],
        "beta": [0.0, 0.1, 0.2, 0.4],
        "tie_break": [0.0, 1e-4, 1e-2, 0.1, 1.0],
        "top_k": [200, 1000],
        "activity_cap": CAPS,
    },
    "lightgcn": {
        **NETWORK,
        "layers": [1, 2, 3],
        "user_rows": ["own", "none"],
        "video_power": [0.0, 0.5],
        "popularity": [False, True],
        "mask_targets": [False, True],
        "keep_edges": [0.5, 1.0],
    },
    # A first search, over NETWORK, found the softmax and small penalties wanting.
    "mmgcn": {
        "l2": [1e-2, 1e-1, 1.0],
        "learning_rate": [5e-4, 1e-3, 3e-3],
        "batch_size": [512, 1024],
        "patience": [8],
        "layers": [1, 2, 3],
        "mask_targets": [False, True],
    },
    # Narrow: about 60 configurations of prototypes were looked at on val before it was declared.
    "preference_gcn": {
        "centre": [("visual", "acoustic")],
        "merge": ["attention", "mean"],
        "batch_size": [512],
        "members": [3],
        "modality_dropout": [0.0, 0.1],
        "patience": [6],
        f"{GRAPH}centred": [(), ("visual", "acoustic")],
    },
    "hybrid": {
        "neighbours": [
            dict(
                zip(("activity_cap", "alpha", "shrinkage", "tie_break", "top_k"), one, strict=True)
            )
            for one in product(
                (20, 400), (0.0, 0.1), (10.0, 100.0, 1000.0), (1e-4, 1e-3, 1e-2), (200, 1000)
            )
        ],
        "by_modality": [
            {"visual": visual, "acoustic": acoustic}
            for visual, acoustic in product((0.0, 0.05, 0.1, 0.2), (0.0, 0.05, 0.1))
        ],
        "log_popularity": [0.0, 0.03, 0.1, 0.3],
        "centre": [("visual",), ("visual", "acoustic")],
    },
}

ABLATIONS: dict[str, dict[str, Any]] = {
    "no modalities": {"similar": False, "pref_source": "none"},
    "no video graphs": {"similar": False},
    "no preference graph": {"pref_source": "none"},
    "h over the preference graph": {"pref_source": "video_graph"},
    "attention": {"merge": "attention"},
    "mean of modalities": {"merge": "mean"},
    "visual alone": {"modalities": ["visual"]},
    "acoustic alone": {"modalities": ["acoustic"]},
    "edges drawn": {"sampling": "edges"},
    "users drawn": {"sampling": "users"},
    "no activity cap": {"activity_cap": 1_000_000},
    "targets left in": {"mask_targets": False},
    "half the edges pruned": {"keep_edges": 0.5},
    "bpr": {"loss": "bpr"},
    "no popularity": {"popularity": False},
    "rows of users": {"user_rows": "own"},
    "modality dropout": {"modality_dropout": 0.1},
}
"""What is changed, one at a time, in the chosen configuration of `preference_gcn`. Each change stops
early on val for itself, as the configuration did."""

TREND_ABLATIONS: dict[str, dict[str, Any]] = {
    "no future": {"future": False},
    "no time": {"time": False},
    "one trend": {"n_trends": 1},
    "separate routing": {"routing": "separate"},
}
"""What is changed, one at a time, in the chosen configuration of `multi_trend`."""

EXPOSED: dict[str, list[Any]] = {
    "learning_rate": [3e-4, 1e-3, 3e-3],
    "dropout": [0.0, 0.2, 0.5],
    "id_dropout": [0.0, 0.2, 0.5],
    "l2": [5e-5, 1e-3, 1e-2],
    "batch_size": [512, 2048],
    "dim": [16, 64],
}
"""Shared by the models that are fitted to exposures."""

TAGGED = [(), ("tags",)]
NIGHTS: dict[str, dict[str, list[Any]]] = {
    "content": {"half_life_days": [1.0, 3.0, 7.0, 30.0], "weights": [], "centre": TAGGED},
    "user_neighbours": {"top_k": [20, 50, 200]},
    "preference_gcn": {"centre": TAGGED},
    "clip_interest": {
        "dim": [16, 32],
        "learning_rate": [1e-3, 5e-3],
        "id_dropout": [0.2, 0.5, 0.9],
        "dropout": [0.2, 0.5],
        "l2": [5e-5, 1e-3],
        "pairwise_weight": [0.0, 1.0],
    },
    "din": {**EXPOSED, "activation": ["dice", "relu"]},
    "dnn": EXPOSED,
    "multi_trend": {**EXPOSED, "retrieval_weight": [0.1, 1.0], "n_trends": [2, 4]},
    "sasrec": EXPOSED,
}
"""What is other on real nights, whose one modality is `tags`; a field without values is not tried."""


def nights(model: str) -> dict[str, list[Any]]:
    """The space of a model on real nights: graphs come from the pipeline and are not tried."""
    space = {**SPACES.get(model, {}), **NIGHTS.get(model, {})}
    return {name: values for name, values in space.items() if values and not name.startswith(GRAPH)}
