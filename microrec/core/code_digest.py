"""Digests of the code that makes rows: of what it does, not of how its files read or where they lie.

A definition is digested as its syntax tree without docstrings, comments and positions. References to definitions of our
own packages are reduced to the name of what is referred to, so that moving a definition to another module, splitting a
module in two or importing it in another way changes no digest. Contracts are digested without their descriptions.
"""

import ast
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

import yaml

from microrec.core.digests import digest

OURS = ("microrec", "jobs")
"""Packages whose modules may move."""
NO_ROWS = frozenset({"cli", "plots", "share", "synth"})
"""Packages of microrec that no row of a night comes from."""
PACKAGES = (
    "deltalake",
    "duckdb",
    "faiss-cpu",
    "lightgbm",
    "llvmlite",
    "numba",
    "numpy",
    "pyarrow",
    "pyspark",
    "scipy",
    "torch",
    "torch-geometric",
)
"""Distributions whose arithmetic or order of rows a night's tables depend on."""
MODEL_GROUP = "microrec.models"
"""Group of the entry points by which other distributions add models."""
VECTOR_FLAGS = (
    "sse4_2",
    "avx",
    "avx2",
    "avx512f",
    "avx512bw",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "fma",
)
ARM_FLAGS = ("asimd", "asimdhp", "bf16", "sve", "sve2")
"""Instruction sets by which numerical libraries choose their kernels, as Linux names them."""
PROSE = frozenset({"description", "purpose", "usage", "limitations"})
"""Keys of a contract that only people read."""


def code_digests(root: Path, schemas: Path) -> dict[str, str]:
    """Digest what makes rows, by package.

    Args:
        root: folder that has `microrec` and `jobs`.
        schemas: folder of the contracts.

    Returns:
        By package (`jobs`, `schemas`, `microrec.models`, ...) a digest of 16 hexadecimal characters, in order of names.
        A definition that moves from one package to another changes both digests, but not `total_digest`.
    """
    return {name: digest_of(parts) for name, parts in sorted(_definitions(root, schemas).items())}


def total_digest(root: Path, schemas: Path) -> str:
    """Digest what makes rows, wherever each definition stands.

    Args:
        root: folder that has `microrec` and `jobs`.
        schemas: folder of the contracts.

    Returns:
        16 hexadecimal characters.
    """
    return digest_of(part for parts in _definitions(root, schemas).values() for part in parts)


def package_versions() -> dict[str, str]:
    """Return the installed version of each of `PACKAGES` and of each distribution that adds models, by name.

    One that is not installed is left out.
    """
    installed = {}
    adds_models = [point.dist.name for point in entry_points(group=MODEL_GROUP) if point.dist]
    for name in sorted({*PACKAGES, *adds_models}):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the kind of processor, as far as libraries choose their kernels by it.

    Args:
        cpuinfo: the kernel's list of processors; where it is absent only the architecture is told.

    Returns:
        The architecture and the vector instruction sets, such as `x86_64 avx avx2 fma`.
    """
    flags: set[str] = set()
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                flags = set(value.split())
                break
    present = [flag for flag in (*VECTOR_FLAGS, *ARM_FLAGS) if flag in flags]
    return " ".join([platform.machine(), *present])


def digest_of(parts: Iterable[str]) -> str:
    """Return one digest of 16 hexadecimal characters for a set of texts, whatever their order."""
    return digest(sorted(set(parts)))


@lru_cache
def _definitions(root: Path, schemas: Path) -> Mapping[str, list[str]]:
    """Normalised definitions by package."""
    definitions: dict[str, list[str]] = {}
    for top in OURS:
        for file in sorted((root / top).rglob("*.py")):
            folders = file.relative_to(root / top).parts
            if top == "microrec" and folders[0].removesuffix(".py") in NO_ROWS:
                continue
            package = f"{top}.{folders[0]}" if len(folders) > 1 else top
            definitions.setdefault(package, []).extend(definitions_of(file.read_text()))
    contracts = [file.read_text() for file in sorted(schemas.glob("*.yaml"))]
    definitions["schemas"] = [
        json.dumps(_without_prose(yaml.safe_load(text))) for text in contracts
    ]
    return definitions


def definitions_of(source: str) -> list[str]:
    """Return the normalised syntax trees of a module's statements, imports left out."""
    tree = ast.parse(source)
    normalised = _Normaliser(_bindings(tree)).visit(tree)
    return [ast.dump(statement) for statement in normalised.body]


def _bindings(tree: ast.Module) -> dict[str, str | None]:
    """What imports of ours bind, anywhere in a module: a definition's own name, or None for a module or package.

    A lower-case name is taken for a module if it is imported from a package (`from microrec.models import registry`),
    which the next attribute then resolves; the two readings give the same tree, as both drop the qualifier.
    """
    bound: dict[str, str | None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            bound |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            ours = [alias for alias in node.names if alias.name.split(".")[0] in OURS]
            bound |= {alias.asname or alias.name.split(".")[0]: None for alias in ours}
    return bound


class _Normaliser(ast.NodeTransformer):
    """Drops imports, docstrings and the modules by which names of ours are qualified."""

    def __init__(self, bound: Mapping[str, str | None]) -> None:
        self._bound = bound

    def visit_Import(self, node: ast.Import) -> None:
        """Imports bind names and do nothing else."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Likewise."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """A bare string documents what stands before it."""
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`module.name` of ours is `name`, however deep the module lies."""
        value = node.value
        while isinstance(value, ast.Attribute):
            value = value.value
        if isinstance(value, ast.Name) and self._is_module(value.id):
            return self._without_modules(node)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A definition of ours goes by the name it was defined with."""
        return ast.Name(self._bound.get(node.id) or node.id, node.ctx)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """A module of ours in a text goes by its last name."""
        if isinstance(node.value, str) and node.value.startswith(tuple(f"{top}." for top in OURS)):
            return ast.Constant(node.value.rsplit(".", 1)[-1])
        return node

    def _is_module(self, name: str) -> bool:
        return name in self._bound and (self._bound[name] or "a").islower()

    def _without_modules(self, node: ast.Attribute) -> ast.AST:
        chain: list[ast.Attribute] = [node]
        while isinstance(chain[-1].value, ast.Attribute):
            chain.append(chain[-1].value)
        root = chain.pop()
        head: ast.expr = ast.Name(root.attr, root.ctx)
        for link in reversed(chain):
            head = ast.Attribute(head, link.attr, link.ctx)
        return head


def _without_prose(value: Any) -> Any:
    """A contract without what only people read."""
    if isinstance(value, dict):
        return {key: _without_prose(part) for key, part in value.items() if key not in PROSE}
    if isinstance(value, list):
        return [_without_prose(part) for part in value]
    return value


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Yield the names whose values differ, with both values; an absent one reads `none`.

    Args:
        before: values by name.
        now: likewise.
    """
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            yield f"{name} {before.get(name, 'none')} -> {now.get(name, 'none')}"
