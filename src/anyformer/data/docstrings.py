"""Docstrings of Python's own modules, real English that ships with it, by what the modules are for."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

from anyformer.data.labelled_text import Labelled
from anyformer.data.text import SHORT

TOPICS = {
    "concurrency": ("asyncio", "threading", "multiprocessing", "concurrent", "queue", "sched"),
    "files": ("pathlib", "shutil", "tarfile", "zipfile", "tempfile", "gzip", "glob", "os", "posixpath", "fileinput"),
    "mail": ("email", "smtplib", "imaplib", "mailbox", "poplib"),
    "network": ("http", "urllib", "socketserver", "socket", "ftplib", "ssl", "xmlrpc", "ipaddress"),
    "numbers": ("statistics", "_pydecimal", "fractions", "random", "numbers", "colorsys", "heapq", "bisect"),
    "tests": ("unittest", "doctest", "pdb", "bdb", "trace", "traceback", "cProfile", "timeit"),
}
"""Modules by topic; those that a Python lacks are left out."""


@cache
def docstrings() -> dict[str, tuple[str, ...]]:
    """The docstrings of each topic, as their authors wrote them, in the order of modules, files and lines."""
    return {
        topic: tuple(text for module in modules for file in _sources(module) for text in _read(file))
        for topic, modules in TOPICS.items()
    }


@cache
def paragraphs(longest: int) -> tuple[Labelled, ...]:
    """Paragraphs of docstrings, of 40 to `longest` bytes, with their topic; more or fewer by Python's version.

    None stands twice, and those that two topics have are left out.
    """
    found: dict[str, set[str]] = {}
    for topic, texts in docstrings().items():
        for paragraph in (p for text in texts for p in text.split("\n\n")):
            found.setdefault(" ".join(paragraph.split()), set()).add(topic)
    fitting = ((text, topics) for text, topics in sorted(found.items()) if SHORT <= len(text.encode()) <= longest)
    return tuple(Labelled((text,), topic) for text, (topic, *more) in fitting if not more)


def _sources(module: str) -> list[Path]:
    """The files of a module, its tests left out."""
    spec = importlib.util.find_spec(module)
    origin = None if spec is None or spec.origin is None else Path(spec.origin)
    if origin is None or origin.suffix != ".py":
        return []
    files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    return [f for f in files if not {"test", "tests"} & set(f.relative_to(origin.parent).parts)]


def _read(file: Path) -> list[str]:
    """The docstrings of a module, its classes and its functions."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [text for node in nodes if isinstance(node, kinds) and (text := ast.get_docstring(node))]
