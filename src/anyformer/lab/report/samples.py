"""Where models differ: samples that they answer differently, classes that they know differently, texts."""

from __future__ import annotations

import base64
import io
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anyformer.lab.report.html import Markup, name, tag
from anyformer.tasks.task import Task

if TYPE_CHECKING:
    from anyformer.lab.compare.comparison import Comparison

SHOWN = 18
"""Samples in the gallery."""

SIDE = 96
"""Pixels to which the longer side of a small image is blown up, pixel by pixel."""

Runs = dict[str, list[dict[str, Any]]]
"""The finished runs of each model, by its name."""


def runs_of(comparison: Comparison) -> Runs:
    """The finished runs of each model that has any, in the order of the rows."""
    done = [r for r in comparison.records if r["kind"] == "run" and "error" not in r]
    found = {row.model: [r for r in done if r["model"] == row.model] for row in comparison.rows}
    return {model: sorted(runs, key=lambda r: r["seed"]) for model, runs in found.items() if runs}


def per_class(runs: Runs) -> Markup | None:
    """A heat map of recall: a row per class, a column per model, the mean over seeds."""
    if len(runs) == 0 or any("classes" not in r for rs in runs.values() for r in rs):
        return None
    first = next(iter(runs.values()))[0]["classes"]
    recall = {m: {c: statistics.fmean(r["classes"][c]["recall"] for r in rs) for c in first} for m, rs in runs.items()}
    low = min(v for values in recall.values() for v in values.values())
    rows = []
    for label, facts in sorted(first.items(), key=lambda item: statistics.fmean(recall[m][item[0]] for m in runs)):
        cells = [heat(recall[m][label], low, f"{m}, class {label}: {tell(rs, label)}") for m, rs in runs.items()]
        rows.append(tag("tr", tag("th", label, scope="row"), tag("td", facts["samples"], cls="number dim"), cells))
    head = tag("tr", tag("th", "class"), tag("th", "samples", cls="number"), [tag("th", name(m)) for m in runs])
    return tag("div", tag("table", tag("thead", head), tag("tbody", rows), cls="heat"), cls="scroll")


def heat(value: float, low: float, words: str) -> Markup:
    """A cell as warm as its value is far from 1, on the scale of the whole map."""
    share = 0.0 if low >= 1 else (1 - value) / (1 - low)
    return tag("td", f"{100 * value:.1f}", style=f"--heat:{100 * share:.0f}%", data_tip=words, tabindex=0)


def tell(runs: Sequence[dict[str, Any]], label: str) -> str:
    """How often a class was found, seed by seed, and what it was most often taken for."""
    per_seed = ", ".join(f"{100 * r['classes'][label]['recall']:.1f}" for r in runs)
    words = f"recall {per_seed} % (one per seed)"
    if any("confusion" not in r for r in runs):
        return words
    names = list(runs[0]["classes"])
    at = names.index(label)
    wrong = Counter({n: sum(r["confusion"][at][k] for r in runs) for k, n in enumerate(names) if k != at})
    (other, times), *_ = wrong.most_common(1)
    return words + (f"; most often taken for {other} ({times / len(runs):.1f} times per run)" if times else "")


def disagreements(runs: Runs, task: Task) -> Markup | None:
    """A gallery of test samples that some models get right and others wrong, those that divide them most first."""
    if len(runs) < 2 or any("answers" not in r for rs in runs.values() for r in rs):
        return None
    kept = min(len(r["answers"]) for rs in runs.values() for r in rs)
    examples = task.examples("test", kept)

    def right(model: str, i: int) -> float:
        return statistics.fmean(r["answers"][i] == examples[i]["truth"] for r in runs[model])

    divided = {i: statistics.pvariance([right(m, i) for m in runs]) for i in range(len(examples))}
    chosen = sorted((i for i in divided if divided[i] > 0), key=lambda i: -divided[i])[:SHOWN]
    if not chosen:
        return tag("p", f"The models' answers on the first {kept} test samples are right and wrong alike.", cls="dim")
    cards = [card(i, examples[i], {m: [r["answers"][i] for r in rs] for m, rs in runs.items()}) for i in chosen]
    number = sum(v > 0 for v in divided.values())
    note = f"{number} of the first {kept} test samples divide the models. The {len(chosen)} that divide them most, "
    note += "with every model's answer for each seed:"
    return Markup(tag("p", note, cls="dim") + tag("div", cards, cls="gallery"))


def card(index: int, example: dict[str, Any], answers: dict[str, list[str]]) -> Markup:
    """A sample, what it is, and what each model took it for."""
    shown = example["input"]
    picture = tag("q", shown) if isinstance(shown, str) else tag("img", src=png(shown), alt=f"test sample {index}")
    lines = []

    def judged(answer: str) -> Markup:
        return tag("b" if answer == example["truth"] else "s", answer)

    for model, given in answers.items():
        if all(len(a) <= 3 for a in given):
            words = tag("span", [[judged(a), " "] for a in given], cls="each")
        else:
            many = len(given) > 1
            words = tag("span", [[judged(a), f" ({n}) " if many else ""] for a, n in Counter(given).most_common()])
        lines.append(tag("li", tag("span", model, title=model), words))
    truth = tag("figcaption", tag("span", f"#{index}", cls="dim"), " truth ", tag("b", example["truth"]))
    kind = "card text" if isinstance(shown, str) else "card"
    return tag("figure", tag("div", picture, truth, cls="what"), tag("ul", lines), cls=kind)


def png(pixels: Any) -> str:
    """An image `(h, w, c)` of bytes as a data URI, small ones blown up pixel by pixel."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3])
    factor = max(1, SIDE // max(image.size))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def passages(runs: Runs, task: Task) -> Markup | None:
    """Passages of the test text that divide the models most, with the bits per byte that each model spends."""
    if not runs or any("passages" not in r for rs in runs.values() for r in rs):
        return None
    indices = [p["index"] for p in next(iter(runs.values()))[0]["passages"]]
    texts = [e["input"] + e["truth"] for e in task.examples("test", max(indices) + 1)]
    sizes = [max(len(texts[i].encode()), 1) for i in indices]
    cost = {
        m: [statistics.fmean(r["passages"][k]["bits"] for r in rs) / size for k, size in enumerate(sizes)]
        for m, rs in runs.items()
    }
    spread = {k: max(c[k] for c in cost.values()) - min(c[k] for c in cost.values()) for k in range(len(indices))}
    values = [v for c in cost.values() for v in c]
    low, high = min(values), max(values)
    rows = []
    for k in sorted(spread, key=lambda k: -spread[k])[:10]:
        cells = [
            tag("td", f"{c[k]:.2f}", style=f"--heat:{100 * (c[k] - low) / max(high - low, 1e-9):.0f}%",
                data_tip=f"{m}: {c[k]:.3f} bits per byte", tabindex=0)
            for m, c in cost.items()
        ]  # fmt: skip
        rows.append(tag("tr", tag("td", tag("q", texts[indices[k]][:240]), cls="passage"), cells))
    head = tag("tr", tag("th", "passage of the test text"), [tag("th", name(m)) for m in cost])
    return tag("div", tag("table", tag("thead", head), tag("tbody", rows), cls="heat"), cls="scroll")


def continuations(runs: Runs) -> Markup | None:
    """How each model goes on from the same beginnings, always with the likeliest token; the first seed's."""
    said = {m: rs[0]["continuations"] for m, rs in runs.items() if "continuations" in rs[0]}
    if not said:
        return None
    cards = []
    for k, beginning in enumerate(next(iter(said.values()))):
        lines = [tag("li", tag("span", m), tag("q", s[k]["text"])) for m, s in said.items()]
        prompt = tag("q", "… " + beginning["input"][-240:], cls="prompt")
        cards.append(tag("figure", prompt, tag("ul", lines), cls="card wide"))
    return tag("div", cards, cls="gallery wide")


def pictures(runs: Runs) -> Markup | None:
    """What each model made of the same samples, drawn; the first seed's."""
    drawn = {m: rs[0]["pictures"] for m, rs in runs.items() if "pictures" in rs[0]}
    if not drawn:
        return None
    cards = []
    for model, shown in drawn.items():
        lines = []
        for one in shown:
            picture = tag("img", src="data:image/png;base64," + one["png"], alt=f"{model}: {one['caption']}")
            lines.append(tag("li", picture, tag("span", one["caption"], cls="dim")))
        cards.append(tag("figure", tag("b", model), tag("ul", lines), cls="card drawn"))
    return tag("div", cards, cls="gallery wide")
