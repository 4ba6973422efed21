"""A recipe is judged whole: every name has a reader, every value is in its range, and all faults come at once."""

import ast
import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.config.recipe import Recipe
from microrec.config.settings import HOME
from microrec.errors import RecipeError
from microrec.pipeline import recipe_check
from tests.worlds import models

COMMITTED = tomllib.loads((HOME / "microrec.toml").read_text())
NESTED = {"c": 20.0, "weights": {"ease": {"warm": 1.0, "cold": 0.5}}}


def judged(values: dict[str, Any], requested: tuple[str, ...] = ()) -> recipe_check.Findings:
    return recipe_check.check(Recipe(Path("recipe.toml"), values, requested))


def faults(values: dict[str, Any], requested: tuple[str, ...] = ()) -> list[str]:
    return [str(fault) for fault in judged(values, requested).faults]


def every_section() -> dict[str, Any]:
    """A recipe with all keys of all sections, at their defaults."""
    values: dict[str, Any] = {}
    for section in recipe_check.section_names():
        group = values
        *groups, name = section.split(".")
        for each in groups:
            group = group.setdefault(each, {})
        defaults = recipe_check.config_of(section)().model_dump_json(exclude_none=True)
        group[name] = json.loads(defaults)
    return values


WHOLE = every_section()


@pytest.mark.parametrize("values", [{}, COMMITTED, WHOLE], ids=["empty", "committed", "whole"])
def test_check_right_recipe_has_no_fault(values: dict[str, Any]) -> None:
    assert faults(values) == []


def test_committed_recipe_has_nothing_without_effect() -> None:
    assert list(judged(COMMITTED).unused) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nigth": {"k": 3}}, "[nigth]: no such section, did you mean [night]?"),
        (
            {"models": {"preference_gnc": {}}},
            "[models.preference_gnc]: no such section, did you mean [models.preference_gcn]?",
        ),
        (
            {"candidates": {"rewatching": {}}},
            "[candidates.rewatching]: no such section, did you mean [candidates.rewatch]?",
        ),
        (
            {"candidates": {"explorationn": {}}},
            "[candidates.explorationn]: no such section, did you mean [candidates.exploration]?",
        ),
        ({"blend": {"c": 1.0}}, "[blend]: no such section, did you mean [candidates.blend]?"),
        ({"graphs": {"modality": 3}}, "[graphs.modality]: should be a table of keys"),
        ({"models": 3}, "[models]: a group of sections, not a value: clip_interest"),
        (
            {"candidates": {"rewatch": {}, "blnd": 3}},
            "[candidates] blnd = 3: a key outside every section, did you mean [candidates.blend]?",
        ),
        (
            {"night": {"window_day": 3}},
            "[night] window_day = 3: no such key, did you mean window_days?",
        ),
        (
            {"models": {"content": {"half_life": 3}}},
            "[models.content] half_life = 3: no such key, did you mean half_life_days?",
        ),
        (
            {"candidates": {"blend": {"other": {"wam": 1.0, "warm": 1.0, "cold": 1.0}}}},
            "[candidates.blend.other] wam = 1.0: no such key, did you mean warm?",
        ),
        (
            {"candidates": {"blend": {"weights": {"ease": {"cold": 1.0}}}}},
            "[candidates.blend.weights.ease]: lacks warm",
        ),
        (
            {"candidates": {"blend": {"weights": {"eese": {"warm": 1.0, "cold": 1.0}}}}},
            '[candidates.blend.weights] eese = {"warm": 1.0, "cold": 1.0}: no such source, did you mean ease?',
        ),
        (
            {"candidates": {"blend": {"weights": {"ranked_by_ease": {"warm": 1.0, "cold": 1.0}}}}},
            "no such source",
        ),
        (
            {"night": {"models": ["popularity", "contnt"]}},
            '[night] models = "contnt": no such model, did you mean content?',
        ),
        (
            {"night": {"models": ["popularity", "din"]}},
            '[night] models = "din": proposes nothing: name it in night.rankers',
        ),
        (
            {"night": {"rankers": ["ease"]}},
            '[night] rankers = "ease": scores no pairs: name it in night.models',
        ),
        (
            {"night": {"models": ["popularity", "ease", "ease"]}},
            '[night] models = "ease": stands there 2 times',
        ),
        ({"night": {"models": ["content"]}}, '[night] models = ["content"]: lacks popularity'),
        ({"night": {"k": True}}, "[night] k = true: should be a valid integer"),
        ({"night": {"k": "50"}}, '[night] k = "50": should be a valid integer'),
        (
            {"models": {"sasrec": {"dim": 30, "n_heads": 4}}},
            "[models.sasrec]: dim 30 is not a multiple of n_heads 4",
        ),
        (
            {"evaluation": {"gate": {"metric": "ndgc@20"}}},
            'metric = "ndgc@20": not measured by [evaluation.ranking] ks = [10, 20, 50], did you mean ndcg@20?',
        ),
        (
            {"evaluation": {"ranking": {"ks": [10]}}},
            '[evaluation.gate] metric = "ndcg@20": not measured by [evaluation.ranking] ks = [10]',
        ),
        (
            {"candidates": {"exploration": {"places": 60}}},
            "[candidates.exploration] places = 60: should be at most [night] k = 50",
        ),
        (
            {"candidates": {"exploration": {"source": "contant"}}},
            "[candidates.exploration] source = contant: no such model, did you mean content?",
        ),
        (
            {"candidates": {"trends": {"min_half_life_hours": 400.0}}},
            "[candidates.trends] min_half_life_hours = 400: should be at most max_half_life_hours = 336",
        ),
        (
            {"landing": {"line_bytes": 2**25}},
            "[landing] line_bytes = 33554432: should be at most value_bytes = 16777216",
        ),
    ],
)
def test_check_one_fault_names_where_what_and_the_nearest(
    values: dict[str, Any], message: str
) -> None:
    (fault,) = faults(values)
    assert message in fault


def test_check_requested_model_that_the_recipe_lacks_is_a_fault() -> None:
    (fault,) = faults(COMMITTED, ("conten",))
    assert (
        fault
        == '[night] MICROREC_MODELS = "conten": not a model of the recipe, did you mean content?'
    )


def test_require_faults_of_several_sections_are_in_one_message() -> None:
    values = {
        "night": {"k": 0, "window_days": -1, "models": ["popularity", "eas"]},
        "graphs": {"user_edges": {"signal": "loud"}},
        "models": {"content": {"half_life_days": 0.0}},
    }
    with pytest.raises(RecipeError) as refused:
        recipe_check.require(Recipe(Path("recipe.toml"), values))
    message = str(refused.value)
    assert message.startswith("recipe recipe.toml: 5 faults (`microrec check-recipe` lists them): ")
    for part in (
        "[night] k = 0: should be greater than 0",
        "[night] window_days = -1: should be greater than 0",
        "[graphs.user_edges] signal = \"loud\": should be 'binary' or 'weight'",
        "[models.content] half_life_days = 0.0: should be greater than 0",
        '[night] models = "eas": no such model, did you mean ease?',
    ):
        assert part in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"models": {"din": {}}}, "[models.din]: unused: night.models and night.rankers lack din"),
        ({"candidates": {"trends": {}}}, "[candidates.trends]: unused"),
        ({"candidates": {"blend": NESTED}}, "[candidates.blend.weights] ease"),
        ({"candidates": {"hybrid": {"nights": 1}}}, "[candidates.hybrid] least_nights = 2"),
        ({"graphs": {"sequences": {"example_days": 20}}}, "[graphs.sequences] example_days = 20"),
        (
            {"evaluation": {"ranking": {"ks": [5]}, "gate": {"metric": "ndcg@5"}}},
            "[evaluation.ranking] ks = [5]: lacks 20",
        ),
    ],
)
def test_require_part_without_effect_is_a_warning(
    values: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    recipe_check.require(Recipe(Path("recipe.toml"), values))
    (warning,) = caplog.messages
    assert message in warning


# Every key, misspelt


def keys_of(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield (*path, key)
            yield from keys_of(value, (*path, key))


def misspelt(name: str, *, position: int, kind: str) -> str:
    """A name with one slip of the hand: a letter twice, two exchanged, one left out."""
    i = position % len(name)
    if kind == "double" or len(name) < 5:
        return name[:i] + name[i] + name[i:]
    if kind == "drop":
        return name[:i] + name[i + 1 :]
    i = min(i, len(name) - 2)
    return name[:i] + name[i + 1] + name[i] + name[i + 2 :]


def renamed(values: Any, path: tuple[str, ...], name: str) -> Any:
    """The same values with one key renamed."""
    key, *rest = path
    if not rest:
        return {name if each == key else each: value for each, value in values.items()}
    return {**values, key: renamed(values[key], tuple(rest), name)}


def siblings_of(values: Any, path: tuple[str, ...]) -> set[str]:
    for key in path[:-1]:
        values = values[key]
    return set(values)


@pytest.mark.parametrize("values", [COMMITTED, WHOLE], ids=["committed", "whole"])
@given(data=st.data())
def test_check_any_key_misspelt_is_refused_with_its_true_name(
    values: dict[str, Any], data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from([*keys_of(values)]))
    kind = data.draw(st.sampled_from(["double", "drop", "exchange"]))
    name = misspelt(path[-1], position=data.draw(st.integers(0, 30)), kind=kind)
    if name in siblings_of(values, path):
        return  # two letters alike were exchanged
    refused = faults(renamed(values, path, name))
    assert any(
        name in fault and path[-1] in fault.partition("did you mean ")[2] for fault in refused
    )


# The table of sections


def sections_read_by_code() -> Iterator[tuple[str, str]]:
    """Name and class, as written, of every section that a file of the package or a job reads."""
    for folder in ("microrec", "jobs"):
        for path in sorted((HOME / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and len(node.args) == 2:
                    name, config = node.args
                    called = ast.unparse(node.func).rpartition(".")[2]
                    if called == "section" and isinstance(name, ast.Constant):
                        yield name.value, ast.unparse(config).rpartition(".")[2]


def test_configs_has_the_sections_that_code_reads_and_no_others() -> None:
    read = dict(sections_read_by_code())
    assert {
        name: config.rpartition(":")[2] for name, config in recipe_check.CONFIGS.items()
    } == read
    for section in recipe_check.CONFIGS:
        assert recipe_check.config_of(section).model_config["extra"] == "forbid"


# Models of other packages


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    yield lambda **changed: models.install(tmp_path, monkeypatch, **changed)
    models.forget()


def test_check_installed_model_takes_part(install: Callable[..., None]) -> None:
    install()
    assert (
        faults({"night": {"models": ["popularity", models.NAME]}, "models": {models.NAME: {}}})
        == []
    )
    (fault,) = faults({"models": {models.NAME: {"shrinkag": 3}}})
    assert fault.startswith(f"[models.{models.NAME}] shrinkag = 3: no such key")
    (fault,) = faults({"models": {models.NAME + "t": {}}})
    assert fault.endswith(f"did you mean [models.{models.NAME}]?")


def test_check_installed_model_that_is_not_what_its_card_says_is_a_fault(
    install: Callable[..., None],
) -> None:
    install(trains_in_epochs=True)
    (fault,) = faults({"night": {"models": ["popularity", models.NAME]}})
    assert "its card says that it trains in epochs" in fault
