"""The report of a comparison, made from recorded rows: what it says, and that it needs nothing from outside."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anyformer.core.errors import AnyformerError
from anyformer.core.spec import Spec
from anyformer.data.pictures import Picture
from anyformer.lab.compare.comparison import Comparison
from anyformer.lab.compare.summary import make_rows
from anyformer.lab.report import write_report
from anyformer.lab.report.html import embed_json, escape, tag
from anyformer.lab.report.page import page
from anyformer.lab.report.samples import png
from anyformer.lab.report.words import plain, spaced
from anyformer.tasks import create_task

HOSTILE = "</script><script>alert(1)</script>"
PRINT = {
    "commit": "abc",
    "versions": {"torch": "2"},
    "machine": {"processor": "A processor", "cores": 2, "threads": 1},
    "time": "2026-01-02T03:04:05+00:00",
}


def run(model: str, seed: int, answers: list[str], truth: list[str]) -> dict[str, Any]:
    pairs = list(zip(answers, truth, strict=True))
    table = [[pairs.count((str(g), str(r))) for g in range(10)] for r in range(10)]
    classes = {
        str(k): {"samples": sum(row), "recall": row[k] / max(sum(row), 1), "f1": 0.5} for k, row in enumerate(table)
    }
    right = sum(a == t for a, t in pairs) / len(truth)
    curve = [{"step": s, "seconds": s / 10, "loss": 2 / s} for s in (10, 20, 30)]
    measured = [{"step": s, "seconds": s / 10, "valid": {"accuracy": s / 40}} for s in (15, 30)]
    return {
        "key": f"{model}{seed}", "kind": "run", "model": model, "seed": seed, "rate": 1e-3, "steps": 30, "seconds": 3.0,
        "step_flop": 1000, "test": {"accuracy": right, "loss": 0.1}, "classes": classes, "confusion": table,
        "answers": answers, "curve": curve, "measured": measured, "fingerprint": PRINT,
    }  # fmt: skip


def comparison(records: list[dict[str, Any]], names: list[str], out: Path = Path("out"), **changes: Any) -> Comparison:
    facts: dict[str, Any] = {
        "task": {"task": "digits"}, "metric": "accuracy", "higher_is_better": True, "budget": "40steps", "size": 1000,
        "rates": (1e-3, 3e-3),
        "seeds": (0, 1), "config": {"batch_size": 64}, "records": tuple(records), "out": out,
        "models": {n: Spec("isotropic", dim=8).to_dict() for n in names},
        "report": out / "report.html", "fingerprint": PRINT,
    }  # fmt: skip
    facts |= changes
    rows = make_rows(dict.fromkeys(names, 1000), records, facts["metric"], facts["higher_is_better"])
    return Comparison(rows=rows, **facts)


@pytest.fixture(scope="module")
def task():
    return create_task("digits")


@pytest.fixture(scope="module")
def truth(task) -> list[str]:
    return [e["truth"] for e in task.examples("test", task.size("test"))]


@pytest.fixture(scope="module")
def records(truth) -> list[dict[str, Any]]:
    """Two models: the good one misses the first sample with one seed, the other the first two with both."""
    other = str((int(truth[0]) + 1) % 10)
    wrong = [other, "x", *truth[2:]]
    found = [run("good", 0, truth, truth), run("good", 1, [other, *truth[1:]], truth)]
    found += [run("poor", seed, wrong, truth) for seed in (0, 1)]
    for name, latency in (("good", 2e-3), ("poor", 1e-3)):
        found.append({
            "key": name, "kind": "cost", "model": name, "operations": 2_000_000, "latency": latency, "throughput": 5e3,
            "memory": 10**6, "threads": 1, "device": "cpu", "uncounted": [], "fingerprint": PRINT,
        })  # fmt: skip
    for rate, loss in ((1e-3, 0.5), (3e-3, None)):
        found.append({
            "key": str(rate), "kind": "sweep", "model": "good", "rate": rate, "loss": loss, "steps": 5, "seconds": 1.0,
            "budget": "5steps", "fingerprint": PRINT,
        })  # fmt: skip
    found.append({"key": "z", "kind": "run", "model": "bad", "error": "RuntimeError: no <luck>", "fingerprint": PRINT})
    return found


@pytest.fixture(scope="module")
def text(records, task) -> str:
    return page(comparison(records, ["poor", "good", "bad"]), task)


def test_says_who_is_best_and_who_failed(text, truth):
    words = re.sub(r"<[^>]+>", "", text)
    assert "Three models on digits" in words
    assert f"good is best, at {100 * (1 - 0.5 / len(truth)):.1f} % accuracy" in words
    assert words.index("good") < words.index("poor")
    assert "no &lt;luck&gt;" in text and "no <luck>" not in text
    assert "bad failed" in words
    for value in ("2.00 ms", "2M", "1MB", "5k", "0.001"):
        assert value in words


def test_needs_nothing_from_outside(text):
    assert set(re.findall(r"https?://[^\s\"'<>)]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, never fetched
    assert all(src.startswith("data:") for src in re.findall(r'src="([^"]*)"', text))
    assert "<link" not in text and "@import" not in text and "url(" not in text


def test_script_finds_what_it_asks_for(text):
    wanted = set(re.findall(r'getElementById\("(\w+)"\)', text))
    assert {"data", "results", "fronts", "curves", "sweep", "theme"} <= wanted
    assert all(f'id="{name}"' in text for name in wanted)


def test_data_of_the_charts(text):
    found = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    assert found["order"] == ["poor", "good", "bad"]
    assert [r["model"] for r in found["rows"]] == ["good", "poor"]
    assert found["curves"]["good"][0]["loss"] == [
        [10, 1.0, 10_000, 0.2],
        [20, 2.0, 20_000, 0.1],
        [30, 3.0, 30_000, 2 / 30],
    ]
    assert [s["loss"] for s in found["sweep"]] == [0.5, None]


def test_disagreements_show_sample_truth_and_answers(text, truth):
    cards = re.findall(r"<figure.*?</figure>", text, re.S)
    assert len(cards) == 2  # of all samples two divide the models: the second more than the first
    assert "#1</span>" in cards[0] and "#0</span>" in cards[1]
    assert cards[1].count("<s>") == 3 and cards[1].count(f"<b>{truth[0]}</b>") == 2  # truth, and the one right answer


def test_classes_show_recall(text, truth):
    first = truth[0]
    missed = 1 / truth.count(first)
    assert f"{100 * (1 - missed / 2):.1f}" in text and f"{100 * (1 - missed):.1f}" in text
    assert f"most often taken for {(int(first) + 1) % 10}" in text


def test_caveats_name_what_applies(records, task, text):
    assert "Two seeds" in text and "The test part has 359 samples" in text and "bad failed" in text
    single = page(comparison([r for r in records if r.get("seed", 0) == 0], ["good"], seeds=(0,), size=None), task)
    assert "One seed" in single and "Two seeds" not in single and "One model on digits" in single
    dirty = [{**r, "fingerprint": {**PRINT, "commit": "abc+changes"}} for r in records]
    assert "in no commit" in page(comparison(dirty, ["good"]), task) and "in no commit" not in text


def test_names_cannot_break_the_page(records, task):
    renamed = [{**r, "model": HOSTILE if r["model"] == "good" else r["model"]} for r in records]
    text = page(comparison(renamed, [HOSTILE, "poor"]), task)
    assert "<script>alert" not in text
    assert len(re.findall(r"<script", text)) == 2


def test_nothing_but_failures_is_still_a_page(records, task):
    text = page(comparison([r for r in records if r["model"] == "bad"], ["bad"]), task)
    assert "No model has a result." in text and "no &lt;luck&gt;" in text and 'id="fronts"' not in text
    assert "Where the models disagree" not in text


def test_texts_show_passages_and_continuations():
    task = create_task("text", length=64)
    example = task.examples("test", 3)[2]

    def record(model: str, bits: float) -> dict[str, Any]:
        size = [len((e["input"] + e["truth"]).encode()) for e in task.examples("test", 3)]
        return {
            **run(model, 0, ["0"], ["0"]), "test": {"bits_per_byte": bits},
            "measured": [{"step": 30, "seconds": 3.0, "valid": {"bits_per_byte": bits}}],
            "passages": [{"index": 0, "bits": 2.0 * size[0]}, {"index": 2, "bits": bits * size[2]}],
            "continuations": [{"input": "Once", "text": f" upon {model}"}],
        }  # fmt: skip

    found = []
    for model, bits in (("a", 3.0), ("b", 2.5)):
        found.append({k: v for k, v in record(model, bits).items() if k not in ("classes", "confusion", "answers")})
    result = comparison(found, ["a", "b"], metric="bits_per_byte", higher_is_better=False, seeds=(0,))
    text = page(result, task)
    assert [r.model for r in result.rows] == ["b", "a"] and "b</b> is best, at 2.500 bits per byte" in text
    heat = text[text.index("Passages that divide") :]
    assert heat.index(str(escape((example["input"] + example["truth"])[:40]))) < heat.index(">2.00<")  # divides most
    assert "3.00" in heat and "upon a" in text and "upon b" in text


def test_pictures_of_results_stand_beside_their_model(records, task):
    def drawn(model: str) -> dict[str, Any]:
        picture = Picture(f"what {model} sees", np.full((2, 3, 3), 7, dtype=np.uint8))
        shown = [{"caption": picture.caption, "png": base64.b64encode(picture.png()).decode()}]
        return {**run(model, 0, ["0"], ["0"]), "pictures": shown}

    text = page(comparison([drawn("a"), drawn("b")], ["a", "b"], seeds=(0,)), task)
    part = text[text.index("What they make of") :]
    assert part.index("what a sees") < part.index("what b sees")
    file = base64.b64decode(part.split("data:image/png;base64,")[1].split('"')[0])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), np.full((2, 3, 3), 7))


def test_image_is_the_samples_pixels(task):
    pixels = task.examples("test", 1)[0]["input"]
    image = Image.open(io.BytesIO(base64.b64decode(png(pixels).split(",")[1])))
    assert image.size == (96, 96)
    assert np.array_equal(np.asarray(image)[6::12, 6::12], pixels[..., 0])


def test_html_escapes_text_and_keeps_markup():
    assert tag("p", "a < b", tag("b", 1), None, title='"') == '<p title="&quot;">a &lt; b<b>1</b></p>'
    held = embed_json({"a": "</script>"}, "x")
    assert held.count("</script>") == 1 and json.loads(re.sub(r"<[^>]+>", "", held)) == {"a": "</script>"}


def test_words():
    assert [spaced(b) for b in ("60s", "500steps", "2e14flop", "5m")] == ["60 s", "500 steps", "2e14 flop", "5 m"]
    assert plain({"a": [1, 2.50], "b": None, "c": True}) == "a 1, 2.5, b none, c yes"


def test_unwritable_place_is_a_sentence(records, task, tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(AnyformerError, match="could not be written"):
        write_report(comparison(records, ["good"]), task, file / "report.html")
