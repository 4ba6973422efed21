"""Words by a trained encoder: near in meaning is near, and only the published weights are taken."""

import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from microrec.errors import BadArgument
from microrec.features import sentences
from microrec.features.sentences import Encoder


def test_text_is_the_caption_and_then_the_tags() -> None:
    assert sentences.text_of(" a  cat\nplays ", ["pets", "", "wool"]) == "a cat plays. pets. wool"
    assert sentences.text_of(None, ["pets"]) == "pets"
    assert sentences.text_of(None, None) == ""


def test_folder_and_name_go_together(tmp_path: Path) -> None:
    for name, folder in (("folder", None), ("all_minilm_l6_v2", tmp_path), ("folder", tmp_path)):
        with pytest.raises(BadArgument, match="weights"):
            Encoder(name, folder)  # type: ignore[arg-type]


def test_version_follows_the_weights_of_a_folder(tmp_path: Path) -> None:
    versions = set()
    for weights in (b"first", b"second"):
        (tmp_path / sentences.WEIGHTS).write_bytes(weights)
        versions.add(Encoder("folder", tmp_path).version)
    assert len(versions) == 2
    assert all(version.startswith("sentences-1-folder-") for version in versions)


def test_package_with_other_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr(sentences.WEIGHTS, b"somebody else's")
    package = SimpleNamespace(get_model_zip_path=lambda: tmp_path / "model.zip")
    monkeypatch.setattr(sentences.importlib, "import_module", lambda name: package)
    with pytest.raises(BadArgument, match="not the published ones"):
        Encoder("all_minilm_l6_v2", None).encode(["a"], [None])


def test_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(sentences.importlib, "import_module", fail)
    with pytest.raises(BadArgument, match=r"microrec\[sentences\]"):
        _ = Encoder("all_minilm_l6_v2", None).version


def test_captions_of_one_meaning_are_nearer_than_those_of_another() -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("all_minilm_l6_v2")
    encoder = Encoder("all_minilm_l6_v2", None)
    captions = ["a kitten plays with wool", "my cat and a ball of yarn", "how to change a car tyre"]
    vectors = encoder.encode(captions, [None, ["pets"], None])
    assert vectors.shape == (3, encoder.dim) == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    # They share no word.
    assert near > far + 0.3
    assert encoder.encode([], []).shape == (0, 384)
    assert encoder.version == f"sentences-1-all_minilm_l6_v2-{sentences.PUBLISHED[:16]}"
