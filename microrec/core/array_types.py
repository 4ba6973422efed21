"""Types of arrays, one name a meaning, for annotations in every stage.

`Int32s` to `Float64s` say exactly what an array holds; `Indices` and `Floats` stand where any width will do, such as
the user_idx of a caller.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Bools: TypeAlias = NDArray[np.bool_]
Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]
Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Instants: TypeAlias = NDArray[np.int64]
"""Microseconds since 1970, UTC."""
Indices: TypeAlias = NDArray[np.integer]
"""Dense indices, or positions in an array, of any width."""
Floats: TypeAlias = NDArray[np.floating]
"""Scores or weights of any precision."""
