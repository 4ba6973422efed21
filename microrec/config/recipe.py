"""The recipe: production values for what each component's `Config` declares.

`microrec.toml` holds one section per component (`[events]`, `[graphs.modality]`, `[models.preference_gcn]`, ...).
A component that has no section runs on the defaults of its `Config`; an unknown key is refused.
"""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from microrec.config.settings import settings
from microrec.errors import RecipeError

FLOOR = "popularity"
"""The model every night has: the gate compares with it."""
ConfigT = TypeVar("ConfigT", bound=BaseModel)

SECTIONS = frozenset(
    {"night", "landing", "events", "graphs", "models", "candidates", "evaluation", "release"}
)


class Night(BaseModel):
    """What all stages of a night agree on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_days: PositiveInt = 14
    """Event days a night looks at, its own day included."""
    grace_hours: NonNegativeFloat = 2.0
    """Hours after the end of a day before its scheduled night starts: what arrives until then is in it."""
    lateness_days: NonNegativeInt = 3
    """How many days after its event day a row may arrive and still count."""
    k: PositiveInt = 50
    """Length of every list of recommendations."""
    overfetch: PositiveInt = 2
    """Each source proposes k * overfetch videos to a user."""
    models: list[str] = Field(
        default=["popularity", "content", "user_neighbours", "video_neighbours", "preference_gcn"],
        min_length=1,
    )
    """Models that are trained and asked for candidates; `popularity` is the floor of the gate."""
    rankers: list[str] = []
    """Models that score what all sources propose to a user; each is one more source (`ranked_by`)."""
    authors_are_users: bool = False
    """Whether an author_id is a user_id; nobody is then shown their own videos."""
    seed: NonNegativeInt = 20260101
    """Root of every random number of the night."""
    valid_hours: PositiveInt = 72
    """Hours after the end of the day at which a release expires."""

    @property
    def trained(self) -> list[str]:
        """Every model of the night, once."""
        return list(dict.fromkeys([*self.models, *self.rankers]))

    @property
    def sources(self) -> list[str]:
        """Names of all candidates of a fit."""
        return [*self.models, *map(ranked_by, self.rankers)]


def ranked_by(model: str) -> str:
    """The source that holds the candidates of all models in a ranking model's order."""
    return f"ranked_by_{model}"


def load(path: Path) -> dict[str, Any]:
    """Parse a recipe file.

    Raises:
        RecipeError: the file is missing, is not TOML, or has an unknown top-level section.
    """
    try:
        recipe = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"recipe {path}: {error}") from error
    unknown = sorted(set(recipe) - SECTIONS)
    if unknown:
        raise RecipeError(f"recipe {path}: unknown section(s) {unknown}, known: {sorted(SECTIONS)}")
    return recipe


def section(name: str, config: type[ConfigT]) -> ConfigT:
    """Resolve one component's `Config` from its section of the recipe (`models.content` is nested).

    Raises:
        RecipeError: a key is unknown or a value is outside its range.
    """
    path = settings().recipe
    values: Any = load(path)
    for part in name.split("."):
        values = values.get(part, {})
    try:
        return config.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"recipe {path}, section [{name}]: {error}") from error


def night() -> Night:
    """The section all stages share, with no more models than the run was asked for.

    Raises:
        RecipeError: a key is unknown or a value is outside its range, or the recipe has no such model.
    """
    whole, asked = section("night", Night), settings().models
    if not asked:
        return whole
    strangers = sorted({*asked} - {*whole.trained})
    if strangers:
        raise RecipeError(f"MICROREC_MODELS: {strangers} not among the recipe's {whole.trained}")
    kept = {*asked, FLOOR}
    return whole.model_copy(
        update={
            "models": [one for one in whole.models if one in kept],
            "rankers": [one for one in whole.rankers if one in kept],
        }
    )
