"""The rules of the house that no linter knows."""

import ast
import re
from pathlib import Path

import pytest

from microrec.config.settings import HOME

SOURCES = sorted(
    path for folder in ("microrec", "jobs", "dags") for path in (HOME / folder).rglob("*.py")
)
JOBS = [path for path in SOURCES if path.parent.name == "jobs" and path.name != "__init__.py"]
TESTS = HOME / "tests"
TESTED_ELSEWHERE = {
    "cli/__main__": "cli/test_app.py",
    "cli/options": "core/test_arguments.py",
    "cli/plots": "plots/test_figures.py",
    "cli/report": "report/test_page.py",
    "core/array_types": "core/test_columns.py",
    "core/request_kinds": "events/test_consent.py",
    "core/trees": "models/rates/test_rates.py",
    "errors": "core/test_arguments.py",
    "evaluation/report": "evaluation/test_gate.py",
    "evaluation/subjects": "evaluation/test_gate.py",
    "export/files": "export/test_handoff.py",
    "export/target": "export/test_handoff.py",
    "graphs/sequences/cuts": "graphs/sequences/test_sequences.py",
    "graphs/similarity/cosine": "graphs/similarity/test_modality_edges.py",
    "graphs/similarity/modality_config": "graphs/similarity/test_modality_edges.py",
    "graphs/similarity/kernels": "cli/test_app.py",
    "graphs/similarity/measures": "graphs/similarity/test_cells.py",
    "graphs/similarity/pearson": "graphs/similarity/test_user_edges.py",
    "landing/importers/expressions": "landing/importers/test_table.py",
    "landing/importers/sources": "landing/importers/test_table.py",
    "models/clip/clip_batches": "models/clip/test_clip_interest.py",
    "models/clip/clip_counts": "models/inputs/test_clip_arrays.py",
    "models/training/phases": "models/graph/test_fitting.py",
    "models/training/process_group": "models/training/test_parallel.py",
    "oracle/compare": "test_oracle.py",
    "oracle/evidence": "test_oracle.py",
    "oracle/inputs": "test_oracle.py",
    "oracle/lists": "test_oracle.py",
    "oracle/segments": "candidates/lists/test_segments.py",
    "oracle/similar": "candidates/lists/test_similar.py",
    "oracle/sources": "test_oracle.py",
    "report/facts": "report/test_page.py",
    "privacy/artefacts": "privacy/test_erasure.py",
    "privacy/people": "privacy/test_erasure.py",
    "privacy/pins": "privacy/test_erasure.py",
    "privacy/receipts": "privacy/test_erasure.py",
    "privacy/rewriting": "privacy/test_erasure.py",
    "privacy/sweeping": "privacy/test_erasure.py",
    "pipeline/absence": "test_night_without_vectors.py",
    "pipeline/arrival_figures": "pipeline/test_arrival_gate.py",
    "pipeline/arrival_lines": "jobs/test_validate_events.py",
    "pipeline/arrival_plan": "jobs/test_validate_events.py",
    "pipeline/arrival_zones": "events/test_zones.py",
    "pipeline/landing_files": "jobs/test_validate_events.py",
    "pipeline/extraction_of_words": "pipeline/test_extraction.py",
    "pipeline/fusing": "release/test_night_end.py",
    "pipeline/last_release": "test_night.py",
    "pipeline/likeness": "test_oracle.py",
    "pipeline/lists": "test_oracle.py",
    "pipeline/networks": "jobs/test_train_model.py",
    "pipeline/night": "release/test_night_end.py",
    "pipeline/oracle_inputs": "test_oracle.py",
    "pipeline/oracle_segments": "release/test_night_end.py",
    "pipeline/oracle_similar": "test_oracle.py",
    "pipeline/served_models": "pipeline/test_private.py",
    "pipeline/segment_lists": "release/test_night_end.py",
    "pipeline/similar_videos": "test_oracle.py",
    "pipeline/promotion": "release/test_night_end.py",
    "pipeline/proposals": "release/test_night_end.py",
    "pipeline/reranking": "release/test_night_end.py",
    "plots/data": "plots/test_figures.py",
    "release/record": "release/test_night_end.py",
    "release/rollback": "release/test_night_end.py",
    "spark/class_archive": "spark/test_session.py",
    "synth/catalogue": "synth/test_world.py",
    "synth/config": "synth/test_world.py",
    "synth/dirt": "synth/test_world.py",
    "synth/population": "synth/test_world.py",
    "synth/privacy": "synth/test_world.py",
    "tables/arrow": "tables/test_commit.py",
    "tables/entries": "privacy/test_erasure.py",
    "tables/store_lock": "tables/test_object_store.py",
    "tables/checks": "tables/test_expectations.py",
    "tables/warehouse": "tables/test_commit.py",
}
"""By module without a test file of its own, the file whose tests are about it; a new module needs its own."""
STAGES = ("events", "graphs", "models", "candidates", "evaluation", "release", "synth", "tables")


def imported(path: Path) -> set[str]:
    """Top-level packages a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_modules_import_spark_or_torch_not_both() -> None:
    both = [
        path
        for path in SOURCES
        if "pyspark" in imported(path) and imported(path) & {"torch", "torch_geometric"}
    ]
    assert not both


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_jobs_state_reads_and_writes_in_eighty_lines(path: Path) -> None:
    text = path.read_text()
    doc = ast.get_docstring(ast.parse(text)) or ""
    assert "Reads:" in doc
    assert "Writes:" in doc
    assert len(text.splitlines()) <= 80


@pytest.mark.parametrize("stage", STAGES)
def test_stage_init_is_its_design_note_only(stage: str) -> None:
    tree = ast.parse((HOME / "microrec" / stage / "__init__.py").read_text())
    assert len(tree.body) == 1
    assert len(ast.get_docstring(tree) or "") > 400


FIXED_WIDTH = re.compile(r"dtype=str\b|astype\(str\)|np\.str_|np\.char\b|dtype=[\"'][<>]?U")


def test_texts_are_held_by_no_array_as_wide_as_the_longest() -> None:
    """One text of 512 characters makes each text of such an array take 2 KB; planted worlds have short ids."""
    wide = [
        f"{path.relative_to(HOME)}:{number}"
        for path in SOURCES
        if "synth" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if FIXED_WIDTH.search(line)
    ]
    assert not wide


def test_functions_have_at_most_forty_lines() -> None:
    long = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
                if (node.end_lineno or 0) - first.lineno + 1 > 40:
                    long.append(f"{path.name}:{node.name}")
    assert not long


def modules() -> list[str]:
    """Return the modules of microrec that hold code, as paths such as `core/fits`."""
    root = HOME / "microrec"
    return sorted(
        path.relative_to(root).with_suffix("").as_posix()
        for path in root.rglob("*.py")
        if path.name != "__init__.py"
    )


def test_mirror_every_module_has_its_test_file() -> None:
    missing = [
        module
        for module in modules()
        if not (TESTS / Path(module).parent / f"test_{Path(module).name}.py").is_file()
    ]
    assert missing == sorted(TESTED_ELSEWHERE)


@pytest.mark.parametrize("module", sorted(TESTED_ELSEWHERE))
def test_mirror_exception_names_a_file_that_exists(module: str) -> None:
    assert (TESTS / TESTED_ELSEWHERE[module]).is_file()


def test_modules_have_telling_names() -> None:
    assert not [p for p in SOURCES if p.stem in {"utils", "helpers", "common", "misc"}]
