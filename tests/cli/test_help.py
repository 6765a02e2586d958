"""`fastgan`, `--help` and `--version`: quick, and complete."""

from __future__ import annotations

import ast
import importlib
import re
import resource
import subprocess
import sys
from dataclasses import fields
from fnmatch import fnmatch
from pathlib import Path
from typing import get_args

import pytest
import typer

import fastgan as library
from fastgan import models
from fastgan.cli import app

COMMANDS = (
    *("generate", "stream", "video", "live", "inspect", "profile", "compare", "bench"),
    *("evaluate", "train", "export", "doctor", "serve"),
)


def test_version(fastgan) -> None:
    assert fastgan("--version").out == f"fastgan {library.__version__}\n"


def test_alone_it_shows_its_commands(fastgan) -> None:
    result = fastgan()
    assert result.code == 0
    assert all(command in result.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_option_and_examples(fastgan, command) -> None:
    result = fastgan(command, "--help")
    assert result.code == 0
    assert f"Usage: fastgan {command}" in result.out or f"{command} [OPTIONS]" in result.out
    if command != "train":
        assert f"fastgan {command}" in result.out.partition("Examples:")[2]
    assert max(len(line) for line in result.out.splitlines()) <= 100


def test_the_examples_use_options_that_exist(fastgan) -> None:
    for command in COMMANDS:
        text = fastgan(command, "--help").out
        options, _, examples = text.partition("Examples:")
        for option in re.findall(r"--[a-z-]+", examples):
            assert option in options, f"{command} has no {option}"


def test_the_models_in_the_help_come_with_the_wheel() -> None:
    """Some come with a checkout alone (pyproject.toml), and are no example for all others."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    (left_out,) = re.findall(r'^"fastgan.models" = (\[".*-photos.*"\])$', text, re.MULTILINE)
    patterns = ast.literal_eval(left_out)
    there = {n for n in models.names() if not any(fnmatch(f"{n}.onnx", p) for p in patterns)}
    assert len(there) < len(models.names())
    program = typer.main.get_command(app())
    commands = {**program.commands, **program.commands["scale"].commands}
    named = set()
    for name, command in commands.items():
        takes = [
            p.help for p in command.params if (p.metavar or "").endswith(("MODEL", "MODEL..."))
        ]
        if takes:
            lines = re.findall(rf"fastgan (?:scale )?{name} ([^#\n]*)", command.epilog or "")
            words = [word for line in lines for word in line.partition(" -")[0].split()]
            named |= {word.rpartition("=")[2] for word in words if "." not in word}
            named |= set(re.findall(r"`fastgan models`\): ([\w-]+)", takes[0] or ""))
    assert {"dcgan-digits", "superres-x4"} <= named <= there


def test_the_help_of_train_has_every_recipe_and_its_settings(fastgan) -> None:
    from fastgan.cli.train import Recipe
    from fastgan.recipes import restoration, system

    def own(settings: object, beside: object) -> set[str]:
        known = {field.name for field in fields(beside)}
        return {field.name for field in fields(settings)} - known - {"hidden"}  # it has an option

    text = fastgan("train", "--help").out
    rows = re.findall(r"^ +([\w-]+) +(\d+)  \S.* \[(.+)\]$", text, re.MULTILINE)
    assert [name for name, *_ in rows] == list(get_args(Recipe))
    (shared,) = re.findall(r"^ +\* (.+)$", text, re.MULTILINE)
    assert set(shared.split(", ")) == own(restoration.PairSettings, system.Settings)
    for name, minutes, settings in rows:
        module = importlib.import_module(f"fastgan.recipes.{name.replace('-', '_')}")
        listed = set(settings.replace("*", shared).split(", "))
        assert listed == own(module.SETTINGS["ship"], system.Settings), name
        assert 1 <= int(minutes) <= 60


#: Options of other programs that our messages name, by program.
OTHERS = {
    *("--force-reinstall", "--no-deps"),  # pip
    *("--query-gpu", "--shm-size"),  # nvidia-smi, docker
}


def test_messages_name_options_that_exist() -> None:
    """Every --option in a string, in a command's own file those of that command."""
    commands = typer.main.get_command(app()).commands
    options = {
        name: {"--help", "--version", "--verbose"}
        | {word for option in command.params for word in (*option.opts, *option.secondary_opts)}
        for name, command in commands.items()
    }
    groups = [command for command in commands.values() if hasattr(command, "commands")]
    below = [command for group in groups for command in group.commands.values()]
    every = set().union(*options.values()) | OTHERS
    every |= {word for command in below for option in command.params for word in option.opts}
    sources = Path(library.__file__).parent
    for path in sorted(sources.rglob("*.py")):
        known = every
        if "cli" in path.relative_to(sources).parts:
            command = path.relative_to(sources / "cli").with_suffix("").parts[0]
            known = options.get(command, every)
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value if isinstance(node, ast.Constant) else None
            for word in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", str(text or "")):
                assert word in known, f"{path}:{node.lineno}: no {word}"


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    code = "import sys; sys.argv = ['fastgan', '--help']\nfrom fastgan.cli import main\n"
    code += "try: main()\nexcept SystemExit: print('IMPORTED', *sys.modules)"
    began = _children_seconds()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    alone = _children_seconds() - began
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = _children_seconds() - began - 2 * alone
    modules = set(result.stdout.partition("IMPORTED")[2].split())
    heavy = {"torch", "onnx", "onnx_ir", "onnxruntime", "triton", "matplotlib", "PIL"}
    assert not heavy & modules
    assert seconds < 0.5


def _children_seconds() -> float:
    """Processor time of every finished child process."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
