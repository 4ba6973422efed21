"""A package outside the checkout that adds a model: the videos of the latest viewings, for everybody."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from microrec.models import registry

NAME = "newest"
CARD = '''"""The card."""

from microrec.models.inputs.graph_arrays import TABLES
from microrec.models.registry import Card

CARD = Card(
    name="newest",
    module="newest.model",
    family="basic",
    kind={kind!r},
    reads=TABLES,
    trains_in_epochs={trains_in_epochs!r},
    status="optional",
    paper="none",
    reason={reason!r},
)
'''
MODEL = '''"""Offers everybody what was watched last."""

import numpy as np
from pydantic import BaseModel, ConfigDict

from microrec.core.fitted import Embeddings, Trained


class Config(BaseModel):
    """Nothing to choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def fit(graph, config, rng):
    """Score each video by its latest viewing, in days."""
    latest = np.zeros(graph.n_videos, dtype=np.int64)
    np.maximum.at(latest, graph.edges.video_idx, graph.edges.last_at)
    fitted = Embeddings(
        user=np.ones((graph.n_users, 1), dtype=np.float32),
        video=(latest / 86_400e6).astype(np.float32)[:, None],
        user_known=np.ones(graph.n_users, dtype=np.bool_),
        video_known=latest > 0,
    )
    return Trained(fitted, {"videos": graph.n_videos})
'''


def install(
    folder: Path,
    patch: pytest.MonkeyPatch,
    *,
    point: str = "newest = newest.cards:CARD",
    **changed: Any,
) -> None:
    """Install the package as a build tool lays it out, here and for processes started from here.

    Args:
        folder: where to.
        patch: undone after the test.
        point: its entry point.
        changed: facts of the card that are not those of the module.
    """
    facts = {"kind": "retrieval", "trains_in_epochs": False, "reason": "just watched", **changed}
    files = {
        "newest/__init__.py": "",
        "newest/cards.py": CARD.format(**facts),
        "newest/model.py": MODEL,
        "newest-1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: newest\nVersion: 1.5\n",
        "newest-1.5.dist-info/entry_points.txt": f"[microrec.models]\n{point}\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    patch.syspath_prepend(folder)
    inherited = os.environ.get("PYTHONPATH")
    patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{inherited}" if inherited else str(folder))
    forget()


def forget() -> None:
    """Have the registry look again for what is installed."""
    registry.cards.cache_clear()
    importlib.invalidate_caches()
    for module in [one for one in sys.modules if one.split(".")[0] == NAME]:
        del sys.modules[module]
