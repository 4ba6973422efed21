"""The recipe: production values for what each component's `Config` declares.

`microrec.toml` holds one section per component (`[events]`, `[graphs.modality]`, `[models.preference_gcn]`, ...).
A component that has no section runs on the defaults of its `Config`; an unknown key is refused.

A job parses the file once, when it opens its night, and passes the `Recipe` on. `pipeline.recipe_check` judges the
whole file before the first job.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
)

from microrec.config.settings import settings
from microrec.core import days
from microrec.errors import RecipeError

FLOOR = "popularity"
"""The model every night has: the gate compares with it."""
ConfigT = TypeVar("ConfigT", bound=BaseModel)

SECTIONS = frozenset(
    {
        "night",
        "privacy",
        "landing",
        "events",
        "features",
        "graphs",
        "models",
        "candidates",
        "evaluation",
        "release",
        "retention",
    }
)


class NightConfig(BaseModel):
    """What all stages of a night agree on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timezone: str = days.UTC
    """Time zone (UTC, or an IANA name such as Asia/Shanghai) whose days are those of events, nights and landing
    folders; a time that was delivered without an offset is a local time of it."""
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
    """Models that are trained and make candidates; `popularity` is the floor of the gate."""
    rankers: list[str] = []
    """Models that score what all sources propose to a user; each is one more source (`ranked_by`)."""
    authors_are_users: bool = False
    """Whether an author_id is a user_id; nobody is then shown their own videos."""
    least_people: PositiveInt = 5
    """Result tables name no count of fewer people than this: it is null (1: every count is told)."""
    seed: NonNegativeInt = 20260101
    """Root of every random number of the night."""
    valid_hours: PositiveInt = 72
    """Hours after the end of the day at which a release expires."""

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, timezone: str) -> str:
        days.zone(timezone)
        return timezone

    @property
    def trained(self) -> list[str]:
        """Every model of the night, once."""
        return list(dict.fromkeys([*self.models, *self.rankers]))

    @property
    def sources(self) -> list[str]:
        """Names of all candidates of a fit."""
        return [*self.models, *map(ranked_by, self.rankers)]


def ranked_by(model: str) -> str:
    """Return the source that holds the candidates of all models in a ranking model's order."""
    return f"ranked_by_{model}"


@dataclass(frozen=True)
class Recipe:
    """A parsed recipe, and the models a run makes do with."""

    path: Path
    """Its file, for messages."""
    values: Mapping[str, Any]
    """Sections by name, as parsed."""
    requested_models: tuple[str, ...] = ()
    """Of the recipe's models those the run was asked for; all if empty."""

    @classmethod
    def load(cls, path: Path, requested_models: Iterable[str] = ()) -> Self:
        """Parse a recipe file and refuse unknown top-level sections.

        Args:
            path: the file.
            requested_models: models the run was asked for; all of the recipe's if empty.

        Returns:
            The recipe; values of its sections are not validated yet.

        Raises:
            RecipeError: the file is missing, is not TOML, or has an unknown top-level section.
        """
        recipe = cls.parse(path, requested_models)
        unknown = sorted(set(recipe.values) - SECTIONS)
        if unknown:
            raise RecipeError(
                f"recipe {path}: unknown section(s) {unknown}, known: {sorted(SECTIONS)}"
            )
        return recipe

    @classmethod
    def parse(cls, path: Path, requested_models: Iterable[str] = ()) -> Self:
        """Parse a recipe file, whatever its sections are: `pipeline.recipe_check` judges them.

        Args:
            path: the file.
            requested_models: models the run was asked for; all of the recipe's if empty.

        Returns:
            The recipe; nothing of it is validated yet.

        Raises:
            RecipeError: the file is missing or is not TOML.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RecipeError(f"recipe {path}: {error}") from error
        return cls(path, values, tuple(requested_models))

    def section(self, name: str, config: type[ConfigT]) -> ConfigT:
        """Resolve one component's `Config` from its section.

        Args:
            name: of the section; `models.content` is nested.
            config: class of the values.

        Returns:
            The validated values, defaults where the recipe has none.

        Raises:
            RecipeError: a key is unknown or a value is outside its range.
        """
        values: Any = self.values
        for part in name.split("."):
            values = values.get(part, {})
        try:
            return validated(config, values)
        except ValidationError as error:
            raise RecipeError(f"recipe {self.path}, section [{name}]: {error}") from error

    @cached_property
    def night(self) -> NightConfig:
        """The section all stages share, with no more models than the run was asked for.

        Raises:
            RecipeError: a key is unknown or a value is outside its range, or the recipe has no such model.
        """
        config = self.section("night", NightConfig)
        if not self.requested_models:
            return config
        unknown = sorted({*self.requested_models} - {*config.trained})
        if unknown:
            raise RecipeError(f"MICROREC_MODELS: {unknown} not among the recipe's {config.trained}")
        kept = {*self.requested_models, FLOOR}
        return config.model_copy(
            update={
                "models": [model for model in config.models if model in kept],
                "rankers": [model for model in config.rankers if model in kept],
            }
        )


def validated(config: type[ConfigT], values: Any) -> ConfigT:
    """Validate the values of a section; types are those of TOML, so that `true` or `"3"` is no number.

    Args:
        config: class of the values.
        values: as TOML has them.

    Returns:
        The values, defaults where there are none.

    Raises:
        ValidationError: a key is unknown, or a value is of another type or outside its range.
    """
    # As JSON: pydantic's strict mode refuses a list for a tuple in Python's own types.
    return config.model_validate_json(json.dumps(values, default=str), strict=True)


def current() -> Recipe:
    """Return the recipe the settings name, parsed now.

    Raises:
        RecipeError: the file is missing, is not TOML, or has an unknown top-level section.
    """
    return Recipe.load(settings().recipe, settings().models)


def parsed() -> Recipe:
    """Return the recipe the settings name, parsed now, whatever its sections are.

    Raises:
        RecipeError: the file is missing or is not TOML.
    """
    return Recipe.parse(settings().recipe, settings().models)
