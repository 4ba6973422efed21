"""Source files that PyG generates: one in the temporary folder for each class of layers that a process builds."""

import tempfile
from pathlib import Path
from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


def without_source(layer: Layer) -> Layer:
    """Delete the source file that PyG has generated for the class of a layer, once it is loaded.

    PyG leaves it for ever: 10 kB for each training of a graph model, every night.

    Args:
        layer: a message passing layer that was just built.

    Returns:
        The layer, which works without the file.
    """
    code = getattr(getattr(type(layer), "propagate", None), "__code__", None)
    if code is not None:
        file = Path(code.co_filename)
        if file.parent == Path(tempfile.gettempdir()) and "_propagate_" in file.name:
            file.unlink(missing_ok=True)
    return layer
