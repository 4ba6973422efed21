"""The stage's configuration refuses what makes no sense."""

import pytest
from pydantic import ValidationError

from microrec.events.config import Config


@pytest.mark.parametrize(
    "values",
    [
        {"max_watch_ms": 86_400_001},
        {"completed_ratio": 0},
        {"skip": 1},
    ],
)
def test_config_invalid_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(values)
