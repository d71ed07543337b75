"""Style by numbers: what a reader may rely on in every file."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

ARGUED_EXCEPTIONS: dict[str, str] = {}
"""File -> why it may be longer. Empty is the aim."""

LEFTOVERS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    return [ROOT / each for each in listed if "_pb2" not in each and (ROOT / each).exists()]


PYTHON = tracked("*.py")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_check() -> None:
    assert len(PYTHON) > 30


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_file_is_short_enough_to_read_in_one_sitting(path: Path) -> None:
    if name(path) in ARGUED_EXCEPTIONS:
        return
    assert len(path.read_text().splitlines()) <= FILE_LINES_MAX


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_functions_fit_on_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{name(path)}:{node.lineno} {node.name} has {lines} lines"


@pytest.mark.parametrize("path", [each for each in PYTHON if "tests" not in each.parts], ids=name)
def test_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{name(path)} has no header"


@pytest.mark.parametrize("path", [each for each in PYTHON if each.name != "test_tidy.py"], ids=name)
def test_nothing_is_left_for_later_in_the_code(path: Path) -> None:
    found = LEFTOVERS.search(path.read_text())
    assert not found, f"{name(path)}: {found.group() if found else ''}"


@pytest.mark.parametrize("package", ["protos", "agent", "coordinator", "trainer", "lab"])
def test_only_ryzen_names_are_importable(package: str) -> None:
    assert not (ROOT / package / "__init__.py").exists()
    children = {each.name for each in (ROOT / package).iterdir() if each.is_dir()} - {"__pycache__"}
    beside = {"ryzen_telemetry"} if package == "protos" else set()  # what agent and coordinator export with
    assert children == {f"ryzen_{package}"} | beside


def test_every_file_that_the_docs_point_to_is_there() -> None:
    for document in tracked("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{name(document)} points to {target}"
