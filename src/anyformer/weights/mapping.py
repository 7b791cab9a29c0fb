"""How a source names its parameters, as a short table of patterns, and what turns its tensors into ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Change = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Rule:
    """One line of a table.

    `theirs` and `ours` are names with holes: `{i}`, `{j}`, ... stand for integers (`{i+1}` shifts one), `{p}` for
    the rest of a name. Several names in `theirs` are joined along the first axis, in their order. `change` acts on
    each of their tensors first (`transpose`, say); for several names in `ours` it gives a tensor for each (`split`).
    With `some`, a model may have only some of several `theirs`.
    """

    theirs: str | Sequence[str]
    ours: str | Sequence[str]
    change: Change | None = None
    some: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.theirs,) if isinstance(self.theirs, str) else tuple(self.theirs)

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.ours,) if isinstance(self.ours, str) else tuple(self.ours)


@dataclass(frozen=True)
class Table:
    """The names of one source for one family.

    Args:
        rules: tried in order; the first that fits a name takes it.
        prefixes: prefixes that a source puts before all names in some of its classes ("model.", "swin.").
        ignore: names that the model computes by itself (indices, masks), as patterns with holes and `*`.
        parent: a table whose rules follow these.
    """

    rules: Sequence[Rule]
    prefixes: Sequence[str] = ()
    ignore: Sequence[str] = ()
    parent: Table | None = field(default=None)

    def all_rules(self) -> list[Rule]:
        return [*self.rules, *(self.parent.all_rules() if self.parent else ())]

    def all_ignored(self) -> list[str]:
        return [*self.ignore, *(self.parent.all_ignored() if self.parent else ())]


def table(*rules: tuple | Rule, **options) -> Table:
    """A `Table` from pairs (theirs, ours) or triples (theirs, ours, change)."""
    return Table([r if isinstance(r, Rule) else Rule(*r) for r in rules], **options)


def inside(names: Table, place: str, prefix: str = "") -> Table:
    """A table for a model that is the module `place` of ours, and whose names stand under `prefix` in theirs."""
    rules = [
        Rule(
            tuple(prefix + theirs for theirs in r.sources),
            tuple(f"{place}.{ours}" for ours in r.targets),
            r.change,
            r.some,
        )
        for r in names.all_rules()
    ]
    return Table(rules, names.prefixes, [prefix + pattern for pattern in names.all_ignored()])


def transpose(tensor: Tensor) -> Tensor:
    """A matrix stored as (in, out), as GPT-2's are."""
    return tensor.t()


def split(*shares: int) -> Change:
    """A change that shares a tensor out along its first axis, in these proportions."""

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        unit = len(tensor) // sum(shares)
        return tensor.split([unit * share for share in shares])

    return change


def translate(names: Table, state: Dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A foreign state under our names, and the names that no rule takes.

    Where two entries stand for one of ours (tied weights), the later one counts.
    """
    rules = [(rule, [pattern(source) for source in rule.sources]) for rule in names.all_rules()]
    ignored = [pattern(name) for name in names.all_ignored()]
    ours: dict[str, Tensor] = {}
    pieces: dict[str, dict[int, Tensor]] = {}
    left: list[str] = []
    for name, tensor in state.items():
        plain = _stripped(name, names)
        if any(p.fullmatch(plain) for p in ignored):
            continue
        for rule, sources in rules:
            hit = next(((n, m) for n, p in enumerate(sources) if (m := p.fullmatch(plain))), None)
            if hit is None:
                continue
            place, match = hit
            keys = [fill(target, match, rule.sources[place]) for target in rule.targets]
            value = tensor if rule.change is None else rule.change(tensor)
            key = keys[0]
            if len(keys) > 1:
                ours.update(zip(keys, value, strict=True))
            elif len(sources) == 1:
                ours[key] = value
            else:
                pieces.setdefault(key, {})[place] = value
                if rule.some or len(pieces[key]) == len(sources):
                    ours[key] = torch.cat([pieces[key][i] for i in sorted(pieces[key])])
            break
        else:
            left.append(name)
    left += [f"{key} (only {len(p)} of its parts)" for key, p in pieces.items() if key not in ours]
    return ours, left


def pattern(name: str) -> re.Pattern:
    """A name with holes as a regular expression."""
    out, at = "", 0
    seen: set[str] = set()
    for hole in re.finditer(r"\{(\w)([+-]\d+)?\}|\*", name):
        out += re.escape(name[at : hole.start()])
        letter = hole.group(1)
        if letter is None:
            out += r".*"
        elif letter in seen:
            out += f"(?P={letter})"
        else:
            out += rf"(?P<{letter}>.+)" if letter == "p" else rf"(?P<{letter}>\d+)"
            seen.add(letter)
        at = hole.end()
    return re.compile(out + re.escape(name[at:]))


def fill(name: str, match: re.Match, source: str) -> str:
    """Our name, its holes filled from what their name had there."""
    shifts = {m.group(1): int(m.group(2) or 0) for m in re.finditer(r"\{(\w)([+-]\d+)?\}", source)}

    def value(hole: re.Match) -> str:
        letter, shift = hole.group(1), int(hole.group(2) or 0)
        text = match.group(letter)
        return text if letter == "p" else str(int(text) - shifts.get(letter, 0) + shift)

    return re.sub(r"\{(\w)([+-]\d+)?\}", value, name)


def _stripped(name: str, names: Table) -> str:
    at: Table | None = names
    while at is not None:
        for prefix in at.prefixes:
            if name.startswith(prefix):
                return name[len(prefix) :]
        at = at.parent
    return name
