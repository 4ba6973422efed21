"""The parameters of the modality graphs, `[graphs.modality]`, apart from what computes them: lists read them, too."""

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

N_PROBES = 24
"""Cells a row is compared with, its own among them."""


class Config(BaseModel):
    """How many neighbours, and of what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: PositiveInt = 10
    """Neighbours per video and modality, itself not among them."""
    centred: list[str] = []
    """Modalities whose mean direction is subtracted first; choose on validation, per modality."""
    block_size: int = Field(default=4096, ge=1, le=65_536)
    """Videos per block, at most: 12 bytes per dimension of each of its vectors."""
    exact_up_to: PositiveInt = 50_000
    """A modality with more vectors is searched approximately. At this size a core needs 7 s for all pairs of 128
    dimensions, three times what the search needs; at 200,000 it is 110 s against 17."""
    n_probes: PositiveInt = N_PROBES
    """Cells the search compares a vector with; raise it if the night measures a recall below 0.99."""
    seed: int = 1
    """Of the search's first centres."""
