"""Show one thing in detail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from anyformer import papers
from anyformer.cli.output import columns, show_json
from anyformer.cli.settings import read_settings
from anyformer.core.errors import OptionError, UnknownName, suggest
from anyformer.core.registry import KINDS, index

EXAMPLES = """examples:
  anyformer show swin_tiny                   a model: its parts, shapes, parameters and operations
  anyformer show swin_tiny --set mixer=pooling --size 448
  anyformer show timm:swin_tiny_patch4_window7_224
  anyformer show window                      a part: what it does and which options it has
  anyformer show metaformer                  a paper: what it says and what is here of it
  anyformer show swin_tiny --spec            the model's spec as YAML"""


@dataclass
class Options:
    """Show a model, family, part, task, method or paper in detail; everything of that name."""

    name: Positional[str]
    """Its name."""
    size: int = 0
    """For a model: show the shapes at this image side or sequence length."""
    set: tuple[str, ...] = ()
    """For a model: options, as option=value."""
    spec: bool = False
    """For a model: print its spec as YAML, which create_model reads back."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""


def run(options: Options) -> int:
    name = options.name
    found: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], str]]] = {}
    if name in index()["variants"] or ":" in name:
        if options.spec:
            return show_spec(options)
        found["model"] = (model_facts(options), model_text)
    elif options.set or options.size or options.spec:
        raise OptionError(f"--set, --size and --spec are for models, and {name!r} is none ('anyformer models').")
    if name in index()["families"]:
        found["family"] = (index()["families"][name] | {"name": name}, family_text)
    if name in index()["parts"]:
        found["part"] = (part_facts(name), part_text)
    for kind in ("tasks", "methods"):
        if name in index()[kind]:
            found[kind.removesuffix("s")] = (index()[kind][name] | {"name": name}, entry_text)
    if name in papers.cards():
        found["paper"] = (paper_facts(name), paper_text)
    if not found:
        known = {*papers.cards(), *(n for kind in NAMED for n in index()[kind])}
        raise UnknownName(f"nothing here is called {name!r}; {suggest(name, known)}")
    if options.as_json:
        show_json({kind: facts for kind, (facts, _) in found.items()})
    else:
        print("\n\n".join(write(facts) for facts, write in found.values()))
    return 0


NAMED = ("variants", "families", "parts", "tasks", "methods")
"""Tables of the index whose names can be shown."""


def show_spec(options: Options) -> int:
    """Print a model's spec as YAML."""
    from anyformer.models.factory import model_spec

    spec = model_spec(options.name, **read_settings(options.set))
    if options.as_json:
        show_json(spec.to_dict())
    else:
        print(spec.to_yaml(), end="")
    return 0


def model_facts(options: Options) -> dict[str, Any]:
    """A model's tree and numbers."""
    from anyformer.cli.diagram import tree
    from anyformer.lab.profile import operations, shapes_only
    from anyformer.models import create_model

    settings = read_settings(options.set)

    def look() -> dict[str, Any]:
        model = create_model(options.name, **settings)
        inputs = model.example_inputs(size=options.size or None)
        counted = operations(model, *inputs)
        family = index()["families"].get(model.family or "", {"papers": (), "doc": ""})
        return {
            "name": options.name,
            "family": model.family,
            "variant": model.variant,
            "doc": family["doc"],
            "inputs": [list(t.shape) for t in inputs],
            "parameters": model.num_parameters(),
            "multiply_adds": counted.multiply_adds,
            "uncounted": list(counted.uncounted),
            "papers": [p for p in family["papers"] if p in papers.cards()],
            "tree": asdict(tree(model, inputs, model.built_from)),
            "spec": model.built_from.to_dict() if model.built_from is not None else None,
        }

    try:
        with shapes_only():
            return look()
    except (NotImplementedError, RuntimeError):
        return look()  # a model whose way through depends on numbers needs numbers


def model_text(facts: dict[str, Any]) -> str:
    from anyformer.cli.diagram import Node, draw

    def node(data: dict[str, Any]) -> Node:
        return Node(**{**data, "children": [node(c) for c in data["children"]]})

    inputs = ", ".join(" x ".join(map(str, shape)) for shape in facts["inputs"])
    without = f" without {', '.join(facts['uncounted'])}" if facts["uncounted"] else ""
    rows = [
        ("input", inputs),
        ("parameters", f"{facts['parameters']:,}"),
        ("multiply-adds", f"{facts['multiply_adds']:,}{without}"),
        *(("paper", citation(slug)) for slug in facts["papers"]),
    ]
    return f"{facts['name']}: {facts['doc']}\n{columns(rows)}\n\n{draw(node(facts['tree']))}"


def citation(slug: str) -> str:
    """Title, year and arXiv number of a paper with a card."""
    card = papers.card(slug)
    return f"{card.title}, {card.year}" + (f", arXiv:{card.arxiv}" if card.arxiv else "") + f" ({slug})"


def family_text(facts: dict[str, Any]) -> str:
    rows = [
        ("variants", ", ".join(facts["variants"])),
        *(("paper", citation(p)) for p in facts["papers"] if p in papers.cards()),
        ("module", facts["module"]),
    ]
    return f"{facts['name']}: {facts['doc']}\n{columns(rows)}"


def part_facts(name: str) -> dict[str, Any]:
    """A part's entry, its full description, and its options with types and defaults."""
    import inspect

    from anyformer.core.build import describe, signature
    from anyformer.core.registry import part_class

    cls = part_class(name)
    options = {
        option: {"takes": describe(hint), "default": None if default is inspect.Parameter.empty else repr(default),
                 "required": default is inspect.Parameter.empty}
        for option, (hint, default) in signature(cls).items()
    }  # fmt: skip
    return index()["parts"][name] | {"name": name, "doc": inspect.getdoc(cls) or "", "options": options}


def part_text(facts: dict[str, Any]) -> str:
    rows = [("kind", KINDS[facts["kind"]]), ("class", facts["target"].replace(":", "."))]
    if "ranks" in facts:
        rows += [("grids", "rank " + ", ".join(map(str, facts["ranks"]))), ("causal", facts["causality"])]
    rows += [("paper", citation(p)) for p in facts["papers"] if p in papers.cards()]
    options = [
        (f"  {name}", f"= {option['default']}" if not option["required"] else "(needed)", option["takes"])
        for name, option in facts["options"].items()
    ]
    return f"{facts['name']}: {facts['doc']}\n\n{columns(rows)}\noptions\n{columns(options)}"


def entry_text(facts: dict[str, Any]) -> str:
    rows = [("class", facts["target"].replace(":", ".")), *(("paper", citation(p)) for p in facts["papers"])]
    return f"{facts['name']}: {facts['doc']}\n{columns(rows)}"


def paper_facts(slug: str) -> dict[str, Any]:
    return asdict(papers.card(slug)) | {"here": asdict(papers.here(slug))}


def paper_text(facts: dict[str, Any]) -> str:
    here = facts["here"]
    held = {None: "never run", True: "held when last run", False: "did not hold when last run"}[here["held"]]
    rows = [
        ("room", ", ".join((facts["room"], *facts["also"]))),
        ("kind", facts["kind"]),
        ("brings", "; ".join(facts["parts"])),
        ("builds on", ", ".join(facts["builds_on"])),
        ("code", f"github.com/{facts['repository']}" if facts["repository"] else ""),
        ("parts here", ", ".join(here["parts"])),
        ("models here", "; ".join(f"{family}: {', '.join(v)}" for family, v in here["models"].items())),
        ("methods here", ", ".join(here["methods"])),
        ("claim", f"{here['claim']}, {held}" if here["claim"] else ""),
        ("goldens", ", ".join(here["goldens"])),
    ]
    return f"{citation(facts['slug'])}\n{facts['sentence']}\n{columns(r for r in rows if r[1])}"
