"""The command `anyformer`: finds the command that is meant, and turns mistakes into sentences and exit codes.

Exit codes: 0 done, 1 the work failed, 2 a mistake in what was asked for, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from anyformer.core.errors import AnyformerError, UnknownName, suggest

COMMANDS = {
    "compare": "train and measure several models on one task under one budget",
    "train": "train one model",
    "evaluate": "measure a trained model",
    "predict": "what a trained model says of new inputs",
    "profile": "parameters, operations, memory and time of models, and how they grow",
    "claim": "re-run the central claims of papers in miniature",
    "models": "list models by family, and the names that they have elsewhere",
    "parts": "list the parts that models are made of",
    "papers": "list, filter and count the papers",
    "show": "one model, part, method, task or paper in detail",
    "new": "start a part, a claim or a card with its files",
    "version": "versions of anyformer and of what it runs on",
}
"""Each is a module of this package with `Options` (a dataclass), `run(options)` and `EXAMPLES`."""

EXAMPLES = """examples:
  anyformer compare vit_micro swin_micro --task digits --budget 30s --size 100k
  anyformer show swin_tiny
  anyformer profile deit_tiny swin_tiny --sizes 224 448
  anyformer papers state space --room layers
  anyformer COMMAND --help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = dispatch(arguments)
        sys.stdout.flush()  # a pipe that closed early is noticed here, not at exit
        return code
    except AnyformerError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        print("anyformer: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell reports for a program that its pipe ended
    except OSError as error:
        return fail(f"{error.filename or 'the system'}: {error.strerror or error}.")


def fail(sentence: str) -> int:
    """Say what is wrong on standard error; the exit code of a user's mistake."""
    print(f"anyformer: {sentence}", file=sys.stderr)
    return 2


def dispatch(arguments: list[str]) -> int:
    """Find the command, read its options, run it."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    name, *rest = arguments
    name = "version" if name == "--version" else name
    if name not in COMMANDS:
        raise UnknownName(f"there is no command {name!r}; {suggest(name, COMMANDS)} ('anyformer --help' lists them.)")
    command = importlib.import_module(f"anyformer.cli.{name}")
    options = parse(command, name, rest)
    return options if isinstance(options, int) else command.run(options)


def parse(command: Any, name: str, arguments: list[str]) -> Any:
    """The command's options, or an exit code where it only printed help or told of a mistake."""
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                command.Options,
                prog=f"anyformer {name}",
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if not end.code:
            print(f"\n{command.EXAMPLES}")
            return 0
        return fail(f"{sentence_of(said.getvalue())} ('anyformer {name} --help' lists the options.)")


def sentence_of(box: str) -> str:
    """What tyro says in a box, as one sentence: the mistake, and the first option that may have been meant."""
    lines = box.splitlines()[1:]
    lines = [
        "\n" if set(line) <= set("│╭╮╰╯─+|- ") else line.strip("│| ") for line in lines
    ]  # drawn in either alphabet
    parts = [part for part in " ".join(lines).split("\n") if part.strip()]
    mistake = re.sub(r"\s+", " ", parts[0]).strip().rstrip(".") if parts else "the options cannot be read"
    near = next((m.group(1) for part in parts[1:] if (m := re.search(r"meant:?\s+(--[\w-]+)", part))), None)
    return f"{mistake.removeprefix('Error parsing config: ')}.{f' Did you mean {near}?' if near else ''}"


def overview() -> str:
    """The help of `anyformer` itself."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    head = "usage: anyformer COMMAND [OPTIONS]\n\nAny part in any model: the ideas of 306 papers, composable.\n"
    codes = "exit codes: 0 done, 1 the work failed, 2 a mistake in what was asked for, 130 interrupted"
    return "\n".join((head, "commands:", *lines, "", EXAMPLES, "", codes))
