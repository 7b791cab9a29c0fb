"""The command line: what it prints, its exit codes, how fast it starts, and that mistakes end in a sentence."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anyformer.cli import templates
from anyformer.cli.main import COMMANDS, main
from anyformer.core.registry import index

SOURCE = Path(__file__).parents[1] / "src"
LISTS = ("models", "parts", "papers", "version", "show swin", "papers --count --json")


def shell(command: str, source: Path = SOURCE, **options) -> subprocess.CompletedProcess:
    """Run `python -m anyformer ...` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "anyformer", *shlex.split(command)],
        env=environment, capture_output=True, text=True, timeout=120, **options,
    )  # fmt: skip


def said(capsys, command: str, code: int = 0) -> str:
    """What a command prints in this process, if it ends with this code."""
    assert main(shlex.split(command)) == code
    return capsys.readouterr().out


def complaint(capsys, command: str) -> str:
    """The sentence with which a command refuses."""
    assert main(shlex.split(command)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return captured.err


# -- starting ------------------------------------------------------------------------------------------------


def test_no_command_prints_the_overview(capsys):
    text = said(capsys, "")
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in COMMANDS)
    assert "exit codes: 0 done" in text and said(capsys, "--help") == text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name, capsys):
    text = said(capsys, f"{name} --help")
    module = importlib.import_module(f"anyformer.cli.{name}")
    assert module.EXAMPLES in text
    assert f"anyformer {name}" in module.EXAMPLES


@pytest.mark.parametrize("command", [*LISTS, *(f"{name} --help" for name in COMMANDS)])
def test_listing_and_help_import_no_torch(command):
    code = (
        "import sys; from anyformer.cli.main import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'numpy', 'sklearn'} & set(sys.modules), 'imported'; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *shlex.split(command)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_models_answers_in_half_a_second():
    times: list[float] = []
    while len(times) < 8 and min(times, default=1.0) >= 0.5:  # the machine may be busy with something else
        begin = time.perf_counter()
        assert shell("models").returncode == 0
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.5


# -- mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("modles", "there is no command 'modles'; did you mean 'models'"),
        ("show swin_tinny", "nothing here is called 'swin_tinny'; did you mean 'swin_tiny'"),
        ("show swin --size 448", "'swin' is none"),
        ("show vit_micro --set mixer", "--set takes option=value"),
        ("show vit_micro --set dim=1 dim=2", "gives 'dim' twice"),
        ("show vit_micro --set dim=[", "is no YAML"),
        ("show vit_micro --set num_clases=3", "'num_classes'"),
        ("models --room models/visoin", "did you mean 'models/vision'"),
        ("models --source tim", "did you mean 'timm'"),
        ("parts --kind mixr", "did you mean 'mixer'"),
        ("papers --room layer", "did you mean 'layers"),
        ("papers --kind surveys", "did you mean 'survey'"),
        ("profile", "takes the name of a model"),
        ("profile vit_micr", "did you mean 'vit_micro'"),
        ("profile vit_micro --sizes 0", "1 or more"),
        ("profile vit_micro --device gpu", "there is no device 'gpu' here"),
        ("profile vit_micro --threads -1", "1 or more, or 0"),
        ("claim", "takes slugs of papers"),
        ("claim not_a_paper", "there is no claim 'not_a_paper'"),
        ("claim bigbench_x", "there is no claim"),
        ("train vit_micro --budget 0s", "more than zero"),
        ("train vit_micro --task digts", "did you mean 'digits'"),
        ("train missing.yaml", "missing.yaml cannot be read"),
        ("evaluate no/such/run", "there is no folder no/such/run"),
        ("predict no/such/run x.png", "there is no folder no/such/run"),
        ("new part Bad-Name", "small letters"),
        ("new part fresh --room layers/atention", "did you mean 'layers/attention'"),
        ("new part window --room layers/attention/local", "there is a part 'window' already"),
        ("new claim not_a_paper", "there is no paper"),
        ("new card swin --title x --room models/vision", "there is a card 'swin' already"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(command, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = complaint(capsys, command)
    flat = re.sub(r"[\s│]+", " ", text)  # a wrong option's value is told in a box, in lines
    assert sentence in flat
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_names_the_nearest(capsys):
    assert "--room" in complaint(capsys, "papers --rom layers")


def test_an_interrupt_ends_with_130_and_one_line():
    # A shell starts what runs in the background with interrupts ignored, and that is inherited.
    wait = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
    wait += "from anyformer.cli import models, main; models.run = lambda o: time.sleep(60); "
    child = subprocess.Popen(
        [sys.executable, "-c", wait + "print('ready', flush=True); raise SystemExit(main.main(['models']))"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=30)
    assert (child.returncode, error) == (130, "anyformer: interrupted\n")


def test_a_closed_pipe_is_silent():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "anyformer", "papers"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, stdout=write, stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_error_of_the_system_is_a_sentence(capsys, monkeypatch):
    def full(options):
        raise OSError(28, "No space left on device", "/disk/file")

    monkeypatch.setattr("anyformer.cli.version.run", full)
    assert complaint(capsys, "version") == "anyformer: /disk/file: No space left on device.\n"


# -- lists ---------------------------------------------------------------------------------------------------


def test_models_lists_every_variant(capsys):
    listed = json.loads(said(capsys, "models --json"))
    assert {v: f for f, entry in listed.items() for v in entry["variants"]} == index()["variants"]
    only = said(capsys, "models deit_tiny").split()
    assert only[0] == "vit" and all("deit_tiny" in name for name in only[1:])
    assert set(json.loads(said(capsys, "models --room models/vision --json"))) <= set(listed)


def test_models_lists_the_names_of_other_sources(capsys):
    names = json.loads(said(capsys, "models swin_tiny --source timm --json"))
    assert names["swin_tiny_patch4_window7_224"] == {"family": "swin", "variant": "swin_tiny"}


def test_parts_lists_by_kind(capsys):
    mixers = json.loads(said(capsys, "parts --kind mixer --json"))
    assert mixers and {entry["kind"] for entry in mixers.values()} == {"mixer"}
    assert "window" in mixers and re.search(r"^window +token mixer ", said(capsys, "parts window"), re.MULTILINE)


def test_papers_filters_and_counts(capsys):
    assert json.loads(said(capsys, "papers --count --json"))["papers"] == 306
    assert json.loads(said(capsys, "papers --kind survey --count --json"))["papers"] == 19
    found = json.loads(said(capsys, "papers shifted window --json"))
    assert "swin" in {card["slug"] for card in found}
    lines = said(capsys, "papers --room layers/convolution").splitlines()
    assert any(line.startswith("hornet ") for line in lines)
    here = json.loads(said(capsys, "papers --here --json"))
    assert here and all(any(card["here"].values()) for card in here)


def test_version_names_what_is_installed(capsys):
    import torch

    import anyformer

    versions = json.loads(said(capsys, "version --json"))
    assert versions["anyformer"] == anyformer.__version__
    assert versions["torch"] == torch.__version__
    assert said(capsys, "--version") == said(capsys, "version")


# -- show ----------------------------------------------------------------------------------------------------


def test_show_model_has_shapes_parameters_and_operations(capsys):
    from anyformer.lab.profile import count_operations
    from anyformer.models import create_model

    facts = json.loads(said(capsys, "show swin_micro --json"))["model"]
    model = create_model("swin_micro")
    assert facts["parameters"] == model.num_parameters()
    assert facts["multiply_adds"] == count_operations(model, *model.example_inputs())
    assert facts["papers"] == ["swin"]
    stages = [c for c in facts["tree"]["children"] if c["slot"].startswith("stages")]
    assert [s["shape"] for s in stages] == [[1, 4, 4, 32], [1, 2, 2, 64]]

    text = said(capsys, "show swin_micro")
    assert "arXiv:2103.14030" in text and f"{model.num_parameters():,}" in text
    assert re.search(r"mixer: window heads=2 window=2 shift=half .* 1 x 4 x 4 x 32 ", text)


def test_show_repeats_equal_blocks_once_and_swaps_parts(capsys):
    text = said(capsys, "show vit_micro --size 16")
    assert "blocks.0 x4: prenorm" in text and "blocks.1" not in text
    assert "1 x 8 x 8 x 64" in text
    assert text.index("norm1") < text.index("mixer") < text.index("norm2") < text.index("ffn")
    assert "mixer: window" in said(capsys, "show vit_micro --set 'mixer={part: window, window: 4}'")


def test_show_needs_no_memory_for_a_model_of_any_size(capsys):
    begin = time.perf_counter()
    facts = json.loads(said(capsys, "show llama2_7b --json"))["model"]
    assert facts["parameters"] == 6_738_415_616  # 27 GB, would it be made
    assert facts["multiply_adds"] > 4 * 10**11
    assert time.perf_counter() - begin < 30


@pytest.mark.parametrize("name", ["models", "parts", "papers", "show", "version"])
def test_the_examples_of_the_help_work(name, capsys):
    for line in importlib.import_module(f"anyformer.cli.{name}").EXAMPLES.splitlines()[1:]:
        command = re.split(r" {3,}", line.strip())[0]  # what stands behind a gap explains
        assert said(capsys, command.removeprefix("anyformer ")).strip(), line


def test_show_spec_is_read_back(capsys):
    from anyformer.core.spec import Spec
    from anyformer.models import model_spec

    assert Spec.from_yaml(said(capsys, "show swin_micro --spec")) == model_spec("swin_micro")


def test_show_tells_all_that_has_the_name(capsys):
    facts = json.loads(said(capsys, "show swin --json"))
    assert set(facts) == {"family", "paper"}
    assert "swin_tiny" in facts["paper"]["here"]["models"]["swin"]
    text = said(capsys, "show window")
    assert "token mixer" in text and re.search(r"heads +\(needed\) +int", text)
    assert "scikit-learn" in said(capsys, "show digits")


@pytest.mark.parametrize("kind", ["parts", "tasks", "methods"])
def test_everything_in_the_index_can_be_shown(kind, capsys):
    for name in index()[kind]:
        assert said(capsys, f"show {name}").strip()


# -- work ----------------------------------------------------------------------------------------------------


def test_profile_prints_a_table_json_and_a_page(capsys, tmp_path):
    page = tmp_path / "growth.html"
    command = f"profile vit_micro swin_micro --sizes 8 16 --batch 2 --seconds 0 --plot {page}"
    text = said(capsys, command)
    assert "vit_micro" in text and "growth" in text and "..." not in text
    assert "vit_micro: operations ^1." in page.read_text()
    found = json.loads(said(capsys, f"{command} --json"))
    assert [p["size"] for p in found[0]["points"]] == [8, 16]


def test_train_evaluate_and_predict(capsys, tmp_path):
    from PIL import Image

    from anyformer.tasks import create_task

    run = tmp_path / "run"
    trained = json.loads(said(capsys, f"train vit_micro --budget 60steps --learning-rate 0.003 --out {run} --json"))
    assert trained["steps"] == 60
    assert "holds a run already" in complaint(capsys, f"train vit_micro --budget 60steps --out {run}")

    measured = json.loads(said(capsys, f"evaluate {run} --split valid --json"))
    assert measured["loss"] == pytest.approx(trained["metrics"]["loss"], rel=1e-5)
    assert "accuracy" in said(capsys, f"evaluate {run}")

    paths = [tmp_path / f"{i}.png" for i in range(20)]
    for path, example in zip(paths, create_task("digits").examples("valid", 20), strict=True):
        Image.fromarray(example["input"][:, :, 0]).save(path)
    answers = json.loads(said(capsys, f"predict {run} {' '.join(map(str, paths))} --json"))
    same = sum(a["label"] == guess for a, guess in zip(answers, measured["guesses"][:20], strict=True))
    assert same >= 18  # files hold bytes, so a guess between two classes may turn
    assert "there is no image" in complaint(capsys, f"predict {run} missing.png")

    (run / "task.json").write_text("{")
    assert "task.json is damaged" in complaint(capsys, f"evaluate {run}")
    (run / "task.json").unlink()
    assert "give --task" in complaint(capsys, f"evaluate {run}")
    assert "accuracy" in said(capsys, f"evaluate {run} --task digits")

    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cut short" in complaint(capsys, f"evaluate {run}")
    weights.unlink()
    assert "no finished run" in complaint(capsys, f"evaluate {run}")


def test_a_diverged_training_is_failed_work(capsys, tmp_path):
    command = f"train vit_micro --budget 20steps --learning-rate 1e30 --out {tmp_path / 'run'}"
    assert main(shlex.split(command)) == 1
    assert "Try a tenth of the learning rate" in capsys.readouterr().err


def test_new_part_works_at_once(tmp_path):
    source = tmp_path / "src"
    shutil.copytree(SOURCE / "anyformer", source / "anyformer", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    paper = '--paper strange --title "A Strange Mean" --arxiv 2501.00001'
    done = shell(f"new part strange_mean --room layers/pooling {paper}", source)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == [
        "src/anyformer/layers/pooling/strange_mean.py",
        "tests/test_strange_mean.py",
        "src/anyformer/papers/strange.yaml",
    ]
    card = json.loads(shell("show strange --json", source).stdout)["paper"]
    assert card["here"]["parts"] == ["strange_mean"] and card["title"] == "A Strange Mean"
    assert "mixer: strange_mean" in shell("show vit_micro --set mixer=strange_mean", source).stdout
    again = shell("new part strange_mean --room layers/pooling", source)
    assert again.returncode == 2 and "there is a part 'strange_mean' already" in again.stderr


@pytest.mark.parametrize("kind", templates.PARTS)
def test_what_new_writes_passes_its_own_test(kind, tmp_path, monkeypatch):
    facts = {"name": "strange", "cls": "Strange", "module": f"strange_{kind}", "papers": "()"}
    source, test = (text.format(**facts) for text in templates.PARTS[kind])
    (tmp_path / f"strange_{kind}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    written: dict = {}
    exec(test, written)
    checks = [check for name, check in written.items() if name.startswith("test_")]
    assert checks
    for check in checks:
        check()
    assert written["Strange"].name == "strange" and written["Strange"].kind == kind


def test_the_claim_that_new_writes_can_be_run():
    from anyformer import papers
    from anyformer.lab.claim import measure_claim

    card = papers.card("swin")
    text = templates.CLAIM.format(title=card.title, year=card.year, arxiv=" arXiv:2103.14030.", sentence=card.sentence)
    written: dict = {"__name__": "written"}
    exec(text.replace("300steps", "3steps"), written)
    result = measure_claim("swin", written["CLAIM"], written["measure"], seeds=[0])
    assert result.measured["gain"][0] == pytest.approx(result.measured["accuracy"][0] - 0.1)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train vit_micro --budget 0s", "a budget is more than zero; given 0 seconds"),
        ("compare vit_micro --bugdet 3s", "Unrecognized options: --bugdet, 3s. Did you mean --budget?"),
        ("compare vit_micro --seeds many", "Error parsing --seeds"),
        ("evaluate", "Missing from anyformer evaluate"),
    ],
)
def test_a_mistake_in_options_is_one_sentence(line: str, sentence: str, capsys):
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("anyformer: ") and said.count("\n") == 1 and sentence in said
