"""What the DAGs read of the recipe is what the jobs read."""

from pathlib import Path

import pytest


def test_models_of_the_dags_are_those_of_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import recipe as dag_recipe

    from microrec.config import recipe
    from microrec.config.settings import settings

    path = tmp_path / "recipe.toml"
    monkeypatch.setenv("MICROREC_RECIPE", str(path))
    for rankers in ("", 'rankers = ["din", "multi_trend"]\n'):
        path.write_text(f'[night]\nmodels = ["popularity", "multi_trend"]\n{rankers}')
        settings.cache_clear()
        night = recipe.current().night
        assert dag_recipe.models() == night.models
        assert dag_recipe.rankers() == night.rankers
        assert dag_recipe.trained() == night.trained
    settings.cache_clear()
    assert dag_recipe.trained() == ["popularity", "multi_trend", "din"]
    assert night.sources == [*night.models, "ranked_by_din", "ranked_by_multi_trend"]


def test_models_of_a_recipe_that_names_none_are_the_default_of_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import recipe as dag_recipe

    from microrec.config.recipe import NightConfig

    path = tmp_path / "recipe.toml"
    path.write_text("[events]\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(path))
    assert dag_recipe.models() == NightConfig().models
    assert dag_recipe.rankers() == NightConfig().rankers


def test_grace_hours_are_the_recipes_or_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import recipe as dag_recipe

    from microrec.config.recipe import NightConfig

    assert NightConfig.model_fields["grace_hours"].default == dag_recipe.GRACE_HOURS
    path = tmp_path / "recipe.toml"
    path.write_text("[night]\ngrace_hours = 5\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(path))
    assert dag_recipe.grace_hours() == 5.0


def test_timezone_is_the_recipes_or_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import recipe as dag_recipe

    from microrec.config.recipe import NightConfig

    assert NightConfig.model_fields["timezone"].default == dag_recipe.TIMEZONE
    path = tmp_path / "recipe.toml"
    monkeypatch.setenv("MICROREC_RECIPE", str(path))
    for line, expected in (("", "UTC"), ('timezone = "Asia/Shanghai"', "Asia/Shanghai")):
        path.write_text(f"[night]\n{line}\n")
        assert str(dag_recipe.timezone()) == expected
