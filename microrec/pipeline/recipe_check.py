"""The recipe as a whole, judged before the first job: sections, keys, values, models, and rules across sections.

A job reads only its own sections, hours after the night began; a misspelt section is read by nobody. Here every section
is compared with the `Config` it belongs to, of this package and of installed models, and every fault is reported at
once. Modules are imported only for sections that the recipe has: most recipes are judged without torch or Spark.
"""

import contextlib
import difflib
import importlib
import itertools
import json
import logging
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from microrec.config.recipe import FLOOR, NightConfig, Recipe, ranked_by, validated
from microrec.core import messages
from microrec.errors import RecipeError
from microrec.models import registry

CONFIGS: Mapping[str, str] = {
    "night": "microrec.config.recipe:NightConfig",
    "landing": "microrec.landing.verify:Limits",
    "events": "microrec.events.config:Config",
    "features.files": "microrec.features.files:Config",
    "features.words": "microrec.features.words:Config",
    "graphs.watch": "microrec.graphs.watch.watch_edges:Config",
    "graphs.memory": "microrec.graphs.watch.memory:Config",
    "graphs.clips": "microrec.graphs.watch.clip_edges:Config",
    "graphs.modality": "microrec.graphs.similarity.modality_config:Config",
    "graphs.user_edges": "microrec.graphs.similarity.pearson:Config",
    "graphs.sequences": "microrec.graphs.sequences.sequences:Config",
    "candidates.retrieval": "microrec.candidates.retrieval.exact:Config",
    "candidates.blend": "microrec.candidates.ranking.closed_form:Config",
    "candidates.fusion": "microrec.candidates.ranking.fusion:Config",
    "candidates.hybrid": "microrec.candidates.ranking.learned_blend:Config",
    "candidates.ladder": "microrec.candidates.lists.ladder:Config",
    "candidates.diversity": "microrec.candidates.lists.diversity:Config",
    "candidates.exploration": "microrec.candidates.lists.exploration:Config",
    "candidates.similar": "microrec.candidates.lists.similar:Config",
    "candidates.segments": "microrec.candidates.lists.segments:Config",
    "candidates.rewatch": "microrec.candidates.lists.rewatch:Config",
    "candidates.trends": "microrec.insights.trends:Config",
    "candidates.clips": "microrec.insights.clips:Config",
    "evaluation.ranking": "microrec.evaluation.ranking:Config",
    "evaluation.arrivals": "microrec.evaluation.arrivals:Config",
    "evaluation.gate": "microrec.evaluation.gate:Config",
    "evaluation.oracle": "microrec.oracle.inputs:Config",
    "privacy.erasure": "microrec.privacy.erasure:Config",
    "release.watch": "microrec.release.health:Config",
    "retention": "microrec.release.retention:Config",
}
"""Module and class of the `Config` of every section but the models', by section."""

READERS = {"candidates.trends": "multi_trend", "candidates.clips": "clip_interest"}
"""Sections that are read only where a model is trained."""

WEIGHTS = "candidates.blend.weights"
WIDTH = 80
"""Characters of a value that a message shows."""
GUARDED_K = 20
"""Length of the lists that the warnings of the gate look at."""

logger = logging.getLogger(__name__)


class Finding(NamedTuple):
    """A fault of the recipe, or a part of it that has no effect."""

    section: str
    key: str
    """Empty where the section itself is meant."""
    value: str
    """As a message shows it; empty where the section itself is meant."""
    problem: str
    """What is wrong, what is allowed, and the nearest known name where there is one."""

    def __str__(self) -> str:
        """Return the finding as part of a message."""
        assignment = f" {self.key} = {self.value}" if self.key else ""
        return f"[{self.section}]{assignment}: {self.problem}"


@dataclass(frozen=True)
class Findings:
    """What the recipe is judged to be."""

    faults: Sequence[Finding]
    """Each keeps the night from starting."""
    unused: Sequence[Finding]
    """Allowed, and without effect."""


def require(recipe: Recipe) -> None:
    """Refuse a recipe that has a fault; log a warning for each part without effect.

    Args:
        recipe: parsed, not validated.

    Raises:
        RecipeError: names every fault.
    """
    findings = check(recipe)
    for finding in findings.unused:
        logger.warning("recipe %s: %s", recipe.path, finding)
    if findings.faults:
        n = len(findings.faults)
        listed = "; ".join(map(str, findings.faults))
        raise RecipeError(
            f"recipe {recipe.path}: {n} fault{'s' * (n > 1)} (`microrec check-recipe` lists them): {listed}"
        )


def check(recipe: Recipe) -> Findings:
    """Compare a recipe with the `Config` of every section.

    Args:
        recipe: parsed, not validated.

    Returns:
        All faults, in the order of the file, then those across sections; what has no effect, if there is no fault.

    Raises:
        RecipeError: an entry point of an installed package does not lead to a card.
    """
    checked = {"night": NightConfig()}
    faults = list(_section_faults(recipe.values, "", checked))
    night = checked["night"]
    assert isinstance(night, NightConfig)
    faults += _model_faults(night, recipe.requested_models)
    faults += _weight_faults(recipe)
    faults += _rule_faults(checked, night)
    return Findings(faults, [] if faults else [*_unused(recipe, checked, night)])


def section_names() -> dict[str, str]:
    """Return module and class of the `Config` of every section, those of installed models included."""
    models = {f"models.{card.name}": f"{card.module}:Config" for card in registry.cards().values()}
    return {**CONFIGS, **models}


def config_of(section: str) -> type[BaseModel]:
    """Return the `Config` of a section, imported.

    Args:
        section: one of `section_names()`.

    Raises:
        RecipeError: the module of an installed model is not what its card says.
    """
    if section.startswith("models."):
        return registry.model(section.removeprefix("models.")).Config
    module, _, name = CONFIGS[section].partition(":")
    config: type[BaseModel] = getattr(importlib.import_module(module), name)
    return config


def _section_faults(
    values: Mapping[str, Any], prefix: str, checked: dict[str, Any]
) -> Iterator[Finding]:
    """Walk the sections; add the validated ones to `checked`."""
    known = section_names()
    for name, value in values.items():
        section = prefix + name
        if section in known:
            yield from _value_faults(section, value, checked)
        elif not any(each.startswith(f"{section}.") for each in known):
            yield _unknown_section(section, value, known)
        elif isinstance(value, Mapping):
            yield from _section_faults(value, f"{section}.", checked)
        else:
            inner = _names_within(f"{section}.", known)
            problem = f"a group of sections, not a value: {', '.join(inner)}"
            yield Finding(section, "", "", problem)


def _value_faults(section: str, value: Any, checked: dict[str, Any]) -> Iterator[Finding]:
    try:
        config = config_of(section)
    except RecipeError as error:
        yield Finding(section, "", "", str(error))
        return
    try:
        checked[section] = validated(config, value)
    except ValidationError as error:
        faults = error.errors()
        yield from (_value_fault(section, config, fault) for fault in faults)
        wrong = {fault["loc"][0] for fault in faults if fault["loc"]}
        if wrong and isinstance(value, Mapping):
            # Rules across sections are judged by what is right of this one.
            right = {key: each for key, each in value.items() if key not in wrong}
            with contextlib.suppress(ValidationError):
                checked[section] = validated(config, right)


def _value_fault(section: str, config: type[BaseModel], fault: Any) -> Finding:
    """A fault that pydantic names, in the words of the recipe."""
    *parents, key = map(str, fault["loc"] or ("",))
    where = ".".join([section, *parents])
    value = _shown(fault["input"]) if key else ""
    if fault["type"] == "missing":
        return Finding(where, "", "", f"lacks {key}")
    if fault["type"] == "extra_forbidden":
        siblings = [*_fields_at(config, parents)]
        return Finding(where, key, value, f"no such key, {_suggestion(key, siblings)}")
    words = fault["msg"].removeprefix("Value error, ")
    problem = words.removeprefix("Input ").replace("an object", "a table of keys")
    return Finding(where, key, value, problem)


def _fields_at(config: Any, parents: Sequence[str]) -> Mapping[str, Any]:
    """Fields of the nested model that lies at a location of a `Config`."""
    annotation: Any = config
    for part in parents:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[part].annotation
        else:
            annotation = typing.get_args(annotation)[-1]
        models = [each for each in typing.get_args(annotation) if _is_model(each)]
        if models and typing.get_origin(annotation) not in (dict, list, tuple):
            (annotation, *_) = models
    return annotation.model_fields if _is_model(annotation) else {}


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _unknown_section(section: str, value: Any, known: Iterable[str]) -> Finding:
    """A section nobody reads; the nearest name in its group, else in any group."""
    group, _, name = section.rpartition(".")
    siblings = _names_within(f"{group}." if group else "", known)
    is_key = not isinstance(value, Mapping)
    near = _nearest(name, siblings)
    if near:
        hint = f"did you mean [{group}.{near}]?" if group else f"did you mean [{near}]?"
    else:
        last = {each.rpartition(".")[2]: each for each in known}
        elsewhere = _nearest(name, last)
        listed = f"the sections are {', '.join(siblings)}"
        hint = f"did you mean [{last[elsewhere]}]?" if elsewhere else listed
    if is_key:
        where = group or "top level"
        return Finding(where, name, _shown(value), f"a key outside every section, {hint}")
    return Finding(section, "", "", f"no such section, {hint}")


def _names_within(prefix: str, known: Iterable[str]) -> list[str]:
    inner = [each.removeprefix(prefix) for each in known if each.startswith(prefix)]
    return list(dict.fromkeys(each.partition(".")[0] for each in inner))


def _model_faults(night: NightConfig, requested: Sequence[str]) -> Iterator[Finding]:
    """Models that nobody offers, stand twice, or cannot do what they are named for."""
    for key in ("models", "rankers"):
        names: list[str] = getattr(night, key)
        for name in dict.fromkeys(names):
            if problem := _model_problem(key, name, n_times=names.count(name)):
                yield Finding("night", key, _shown(name), problem)
    if FLOOR not in night.models:
        problem = f"lacks {FLOOR}, which the gate compares with"
        yield Finding("night", "models", _shown(night.models), problem)
    for name in requested:
        if name not in night.trained:
            problem = f"not a model of the recipe, {_suggestion(name, night.trained)}"
            yield Finding("night", "MICROREC_MODELS", _shown(name), problem)


def _model_problem(key: str, name: str, *, n_times: int) -> str | None:
    """What is wrong with a name of `night.models` or `night.rankers`."""
    cards = registry.cards()
    able = [each for each, card in cards.items() if _is_able(card, key)]
    if name not in cards:
        return f"no such model, {_suggestion(name, able)}"
    if name not in able and key == "models":
        return "proposes nothing: name it in night.rankers"
    if name not in able:
        return "scores no pairs: name it in night.models"
    if n_times > 1:
        return f"stands there {n_times} times"
    # The tests hold this package's own modules to their cards; importing them here would take seconds.
    return None if name in registry.CARDS else _module_problem(name)


def _is_able(card: registry.Card, key: str) -> bool:
    return card.proposes if key == "models" else card.scores_pairs


def _module_problem(name: str) -> str | None:
    """What is wrong with the module of an installed model."""
    try:
        registry.model(name)
    except (RecipeError, ImportError) as error:
        return str(error)
    return None


def _weight_faults(recipe: Recipe) -> Iterator[Finding]:
    """Weights of sources that no recipe can have."""
    possible = _possible_sources()
    for source, weight in _weights(recipe).items():
        if source not in possible:
            problem = f"no such source, {_suggestion(source, possible)}"
            yield Finding(WEIGHTS, source, _shown(weight), problem)


def _possible_sources() -> list[str]:
    cards = registry.cards()
    proposing = [name for name, card in cards.items() if card.proposes]
    return [*proposing, *(ranked_by(name) for name, card in cards.items() if card.scores_pairs)]


def _weights(recipe: Recipe) -> Mapping[str, Any]:
    """The weights of the blend that stand in the recipe, none of the defaults."""
    values: Any = recipe.values
    for part in WEIGHTS.split("."):
        values = values.get(part, {}) if isinstance(values, Mapping) else {}
    return values if isinstance(values, Mapping) else {}


def _rule_faults(checked: Mapping[str, Any], night: NightConfig) -> Iterator[Finding]:
    """Values that are right alone and wrong together, of sections that the recipe has."""
    explored = checked.get("candidates.exploration")
    if explored and explored.places > night.k:
        problem = f"should be at most [night] k = {night.k}, the length of a list"
        yield Finding("candidates.exploration", "places", str(explored.places), problem)
    proposing = [name for name, card in registry.cards().items() if card.proposes]
    if explored and explored.source not in proposing:
        problem = f"no such model, {_suggestion(explored.source, proposing)}"
        yield Finding("candidates.exploration", "source", explored.source, problem)
    trends = checked.get("candidates.trends")
    if trends and trends.min_half_life_hours > trends.max_half_life_hours:
        problem = f"should be at most max_half_life_hours = {trends.max_half_life_hours:g}"
        value = f"{trends.min_half_life_hours:g}"
        yield Finding("candidates.trends", "min_half_life_hours", value, problem)
    limits = checked.get("landing")
    if limits and limits.line_bytes > limits.value_bytes:
        problem = f"should be at most value_bytes = {limits.value_bytes}"
        yield Finding("landing", "line_bytes", str(limits.line_bytes), problem)
    if {"evaluation.gate", "evaluation.ranking"} & checked.keys():
        yield from _metric_faults(checked)


def _metric_faults(checked: Mapping[str, Any]) -> Iterator[Finding]:
    """A figure of merit that is not measured."""
    from microrec.evaluation import gate, ranking

    metric = checked.get("evaluation.gate", gate.Config()).metric
    ks = checked.get("evaluation.ranking", ranking.Config()).ks
    measured = [f"{name}@{k}" for name in ranking.ACCURACY for k in ks]
    if metric not in measured:
        problem = (
            f"not measured by [evaluation.ranking] ks = {list(ks)}, {_suggestion(metric, measured)}"
        )
        yield Finding("evaluation.gate", "metric", _shown(metric), problem)


def _unused(recipe: Recipe, checked: Mapping[str, Any], night: NightConfig) -> Iterator[Finding]:
    """Sections and values that are right and have no effect in this recipe."""
    for section in checked:
        model = READERS.get(section) or section.removeprefix("models.")
        read = section in READERS or section.startswith("models.")
        if read and model not in night.trained:
            yield Finding(section, "", "", f"unused: night.models and night.rankers lack {model}")
    for source, weight in _weights(recipe).items():
        if source in _possible_sources() and source not in night.sources:
            problem = "unused: the night has no such source"
            yield Finding(WEIGHTS, source, _shown(weight), problem)
    yield from _ineffective(checked, night)


def _ineffective(checked: Mapping[str, Any], night: NightConfig) -> Iterator[Finding]:
    """Values that other sections keep from having an effect."""
    hybrid = checked.get("candidates.hybrid")
    most = min(hybrid.nights, night.window_days) if hybrid else 0
    if hybrid and 0 < most < hybrid.least_nights:
        problem = f"more than the {most} nights there can be: the closed form always stands"
        value = str(hybrid.least_nights)
        yield Finding("candidates.hybrid", "least_nights", value, problem)
    sequences = checked.get("graphs.sequences")
    if sequences and sequences.example_days > night.window_days:
        problem = f"days beyond [night] window_days = {night.window_days} have no events"
        value = str(sequences.example_days)
        yield Finding("graphs.sequences", "example_days", value, problem)
    ranking = checked.get("evaluation.ranking")
    if ranking and GUARDED_K not in ranking.ks:
        problem = (
            f"lacks {GUARDED_K}: the gate's warnings and the report of a night have no figures"
        )
        yield Finding("evaluation.ranking", "ks", str(list(ranking.ks)), problem)


def _shown(value: Any) -> str:
    """A value much as TOML has it, cut, in one line."""
    text = messages.plain(json.dumps(value, default=str, ensure_ascii=False))
    return text if len(text) <= WIDTH else f"{text[:WIDTH]} ..."


def _suggestion(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a question, or all of them."""
    names = list(known)
    near = _nearest(name, names)
    return f"did you mean {near}?" if near else f"there are {', '.join(names)}"


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like another; of equals the one with the longer common beginning."""
    close = difflib.get_close_matches(name, list(known))

    def likeness(candidate: str) -> tuple[float, int]:
        ratio = difflib.SequenceMatcher(None, candidate, name).ratio()
        pairs = zip(candidate, name, strict=False)
        return ratio, len([*itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)])

    return max(close, key=likeness, default=None)
