"""The house keeps its order: imports point one way, `import anyformer` is light, nothing names a machine."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "anyformer"
ORDER = ("core", "kernels", "layers", "blocks", "models", "methods", "tasks", "lab", "claims", "cli")
BESIDE = {"weights": "models", "data": "models", "papers": None}
"""Rooms beside the line: which room of it they may import up to; papers import nothing but the core."""


def imports(path: Path) -> set[str]:
    """Rooms of anyformer that a file imports, inside functions too."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "anyformer":
                names = [f"anyformer.{a.name}" for a in node.names]
        rooms |= {n.split(".")[1] for n in names if n.startswith("anyformer.")}
    return rooms


def may_import(room: str) -> set[str]:
    if room in BESIDE:
        limit = BESIDE[room]
        lower = ORDER[: ORDER.index(limit) + 1] if limit else ("core",)
        return {room, *lower, *BESIDE} - ({"papers"} if room != "papers" else set())
    return {*ORDER[: ORDER.index(room) + 1], *(BESIDE if ORDER.index(room) > ORDER.index("models") else ())}


LAZY = {  # a method of convenience that reaches up, inside its function, by design
    "blocks/decoder.py": {"methods"},
    "blocks/encoder_decoder.py": {"methods"},
    "core/index.py": {"*"},
}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path):
    inside = str(path.relative_to(SOURCE))
    room = inside.split("/")[0]
    if "/" not in inside or room not in (*ORDER, *BESIDE):
        return
    wrong = imports(path) - may_import(room) - LAZY.get(inside, set())
    allowed_names = {"Spec", "create_model", "load_reference", "model_spec", "from_pretrained", "save_pretrained"}
    assert not wrong - allowed_names - {"__version__"}, f"{inside} imports {sorted(wrong)}, which stand above {room}"


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_is_light():
    heavy = fresh(
        "import sys, anyformer; print([m for m in ('torch', 'numpy', 'yaml', 'sklearn') if m in sys.modules])"
    )
    assert heavy == "[]"
    code = "import time; t = time.perf_counter(); import anyformer; print(time.perf_counter() - t)"
    assert min(float(fresh(code)) for _ in range(3)) <= 0.2


def test_listing_models_is_quick_and_needs_no_torch():
    def seconds() -> float:
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "anyformer", "models", "--json"], capture_output=True, text=True)
        spent = time.perf_counter() - start
        assert done.returncode == 0 and len(json.loads(done.stdout)) >= 1
        return spent

    assert min(seconds() for _ in range(3)) <= 0.5


def test_no_file_names_a_machine():
    for path in [*SOURCE.rglob("*.py"), *SOURCE.rglob("*.yaml")]:
        text = path.read_text()
        for word in ("/work/", "/tmp/", "/root/"):
            assert word not in text, f"{path.name} names {word}"


def test_files_stay_readable():
    long = {p.name: n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 500}
    assert not long, "one mechanism, one file"
