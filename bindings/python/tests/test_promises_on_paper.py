"""What is written down (READMEs, stubs, docstrings, types) is what there is."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

import ottla
import ottla.errors
from ottla import _core

HERE = Path(__file__).resolve().parents[1]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def snippets(readme: Path) -> list[str]:
    """The Python programs of a README, fenced or fed to an interpreter."""
    text = readme.read_text()
    return re.findall(r"```python\n(.*?)```", text, re.S) + re.findall(r"<<'PY'\n(.*?)\nPY\n", text, re.S)


def test_the_first_five_minutes_work_word_by_word(run_python: Run, bootstrap: str) -> None:
    (program,) = snippets(ROOT / "README.md")
    assert "127.0.0.1:9092" in program
    ended = run_python(program.replace("127.0.0.1:9092", bootstrap))
    assert ended.returncode == 0, ended.stderr
    placement, *records = ended.stdout.splitlines()
    assert placement.startswith("Placement(topic='packages', partition=")
    assert any("b'zsh'" in record for record in records)


@pytest.mark.parametrize("number", range(len(snippets(HERE / "README.md"))))
def test_the_readmes_programs_run(run_python: Run, bootstrap: str, number: int) -> None:
    program = snippets(HERE / "README.md")[number]
    ended = run_python(program.replace("127.0.0.1:9092", bootstrap), timeout=60)
    assert ended.returncode == 0, f"{program}\n{ended.stderr}"


def test_the_example_counts_what_it_sent(bootstrap: str) -> None:
    command = [sys.executable, str(HERE / "examples/packages.py"), bootstrap]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    counts = re.findall(r"sent (\d+), read (\d+) of (\d+)", ended.stdout)
    assert sum(int(sent) for sent, _, _ in counts) == 1000
    assert all(int(sent) <= int(read) == int(end) for sent, read, end in counts)


def stub_definitions() -> list[tuple[str, ast.ClassDef | ast.FunctionDef]]:
    tree = ast.parse((Path(ottla.__file__).parent / "_core.pyi").read_text())
    found: list[tuple[str, ast.ClassDef | ast.FunctionDef]] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.append((node.name, node))
        if isinstance(node, ast.ClassDef):
            found += [(f"{node.name}.{one.name}", one) for one in node.body if isinstance(one, ast.FunctionDef)]
    # The buffer protocol has no method to look at before Python 3.12.
    return [one for one in found if sys.version_info >= (3, 12) or not one[0].endswith(".__buffer__")]


@pytest.mark.parametrize(
    ("name", "node"), stub_definitions(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_stub_says_what_help_says(name: str, node: ast.ClassDef | ast.FunctionDef) -> None:
    real: object = _core
    for part in name.split("."):
        real = inspect.getattr_static(real, part) if isinstance(real, type) else getattr(real, part)
    if (words := ast.get_docstring(node)) is not None:
        assert inspect.getdoc(real) == words
    if isinstance(node, ast.FunctionDef) and not name.rpartition(".")[2].startswith("__") and callable(real):
        given = inspect.signature(real).parameters
        written = node.args
        assert list(given) == [one.arg for one in written.posonlyargs + written.args + written.kwonlyargs]
        keywords = [one.arg for one in written.kwonlyargs]
        assert [one.name for one in given.values() if one.kind is one.KEYWORD_ONLY] == keywords


def test_the_stub_leaves_nothing_out() -> None:
    stubbed = {name for name, _ in stub_definitions()}
    for name, value in vars(_core).items():
        if name.startswith("__"):
            continue
        assert name in stubbed
        if isinstance(value, type):
            members = {f"{name}.{one}" for one in vars(value) if not one.startswith("__")}
            assert members <= stubbed


def test_what_is_exported_is_there() -> None:
    for module in (ottla, ottla.errors):
        assert sorted(module.__all__) == list(module.__all__)
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert {ottla.Record.__module__, ottla.Placement.__module__, ottla.Batch.__module__} == {"ottla"}
    assert (Path(ottla.__file__).parent / "py.typed").exists()
    assert ottla.__version__ == importlib.metadata.version("ottla")


def test_strict_type_checking_finds_nothing() -> None:
    pytest.importorskip("mypy", reason="mypy is not installed beside the wheel")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", "/dev/null"]
    for target in (["-p", "ottla"], [str(HERE / "examples/packages.py")]):
        ended = subprocess.run([*command, *target], capture_output=True, text=True, timeout=300, check=False)
        assert (ended.stdout, ended.returncode) == ("", 0), ended.stderr


def test_type_checkers_know_what_is_wrong(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed beside the wheel")
    program = tmp_path / "wrong.py"
    program.write_text(
        "from ottla import Consumer, Producer\n"
        "producer = Producer(linger_ms='soon')\n"
        "producer.send('t', 'text')\n"
        "Producer(compression='brotli')\n"
        "Consumer('t', start='middle')\n"
        "offset: int = producer.send('t', b'v').result().offset\n"
        "for record in Consumer('t'):\n"
        "    len(record.value)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", "/dev/null", str(program)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert sorted({int(line) for line in re.findall(r":(\d+): error", ended.stdout)}) == [2, 3, 4, 5, 6, 8]
