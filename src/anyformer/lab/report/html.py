"""HTML from Python: text is escaped, markup is not, and nothing is fetched."""

from __future__ import annotations

import html
import json
from importlib import resources
from typing import Any


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(content: Any) -> Markup:
    """Content as HTML: markup as it is, sequences one after another, None as nothing, all else as text."""
    if content is None:
        return Markup("")
    if isinstance(content, Markup):
        return content
    if isinstance(content, list | tuple):
        return Markup("".join(escape(c) for c in content))
    return Markup(html.escape(str(content)))


def tag(name: str, /, *content: Any, **attributes: Any) -> Markup:
    """`tag("td", 3, cls="number")`. `cls` is `class`, underscores are hyphens, None leaves an attribute out."""
    written = "".join(
        f' {"class" if key == "cls" else key.replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in ("img", "meta", "br"):
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{escape(content)}</{name}>")


def name(text: str) -> Markup:
    """A model's name that may be broken before each part that was swapped."""
    return Markup(html.escape(text).replace("+", "<wbr>+"))


def embed_json(data: Any, name: str) -> Markup:
    """Data for the page's script; nothing in it can end the element that holds it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(f'<script type="application/json" id="{name}">{text}</script>')


def asset(name: str) -> Markup:
    """The text of a file beside this one."""
    return Markup(resources.files("anyformer.lab.report").joinpath(name).read_text(encoding="utf-8"))
