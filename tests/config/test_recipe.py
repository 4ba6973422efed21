"""A run may make do with some of the recipe's models, never with others, and never without the floor."""

from pathlib import Path

import pytest

from microrec.config import recipe
from microrec.config.settings import settings
from microrec.errors import RecipeError

RECIPE = """
[night]
models = ["content", "popularity", "ease"]
rankers = ["din", "multi_trend"]
"""


@pytest.mark.parametrize(
    ("asked", "models", "rankers"),
    [
        ("[]", ["content", "popularity", "ease"], ["din", "multi_trend"]),
        ('["ease"]', ["popularity", "ease"], []),
        ('["din", "content"]', ["content", "popularity"], ["din"]),
    ],
)
def test_recipe_models_are_those_requested(
    asked: str, models: list[str], rankers: list[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "recipe.toml").write_text(RECIPE)
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    monkeypatch.setenv("MICROREC_MODELS", asked)
    settings.cache_clear()
    night = recipe.current().night
    assert (night.models, night.rankers) == (models, rankers)


def test_recipe_unknown_key_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "recipe.toml").write_text(RECIPE)
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    monkeypatch.setenv("MICROREC_MODELS", '["ease", "lightgcn"]')
    settings.cache_clear()
    with pytest.raises(RecipeError, match=r"MICROREC_MODELS: \['lightgcn'\] not among"):
        _ = recipe.current().night


def test_night_unknown_time_zone_is_refused_by_key_with_names_that_are_near(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place / "recipe.toml"
    path.write_text('[night]\ntimezone = "Shanghai"\n')
    with pytest.raises(RecipeError, match=r"timezone[\s\S]*Asia/Shanghai"):
        _ = recipe.Recipe.load(path).night
