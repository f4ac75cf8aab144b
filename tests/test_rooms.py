"""Rooms and doors: a file imports only from its own room and from those before it."""

import ast
import pathlib

import pytest

import vampzoo

PACKAGE = pathlib.Path(vampzoo.__file__).parent

# From the ground up. What stands in one line may import one another as long as no circle comes about.
ROOMS = (
    ("errors",),
    ("config", "random", "files", "figures", "memory", "quiet"),
    ("distributions", "priors", "objectives", "optimizers", "callbacks"),
    ("networks",),
    ("models",),
    ("datasets",),
    ("evaluation",),
    ("training",),
    ("zoo",),
    ("paper",),
    ("benchmarking",),
)
LEVELS = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}


def modules():
    """{dotted name without "vampzoo.": path} of all modules."""
    paths = {path: path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")}
    return {".".join(p for p in name.parts if p != "__init__"): path for path, name in paths.items()}


MODULES = modules()


def imports(path):
    """Names, without "vampzoo.", of the package's modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vampzoo":
            base = ".".join(node.module.split(".")[1:])
            for alias in node.names:
                name = f"{base}.{alias.name}".strip(".")
                found.add(name if name in MODULES else base)
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("vampzoo.") for a in node.names if a.name.startswith("vampzoo.")}
    return found - {""}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_frameworks_are_used_through_their_public_names(name):
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        named += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not [n for n in named if n.startswith(("tensorflow.python", "keras.src"))]
        assert not (isinstance(node, ast.Attribute) and node.attr == "_flatten_layers")


def room(name):
    return name.split(".")[0]


@pytest.mark.parametrize("name", sorted(n for n in MODULES if room(n) in LEVELS))
def test_a_room_imports_from_those_before_it(name):
    own = LEVELS[room(name)]
    assert not {
        other
        for other in imports(MODULES[name])
        if room(other) != room(name) and (room(other) not in LEVELS or LEVELS[room(other)] > own)
    }


def test_every_file_is_in_a_room_or_a_door():
    doors = {name for name in MODULES if room(name) not in LEVELS and name}
    assert doors == {
        "benchmark",
        "client",
        "evaluate",
        "export",
        "program",
        "report",
        "reproduce",
        "sample",
        "scaling",
        "serve",
        "train",
    }
    assert not imports(MODULES["client"])  # it runs where nothing but TensorFlow Serving's stubs is installed
    assert imports(MODULES["program"]) <= {"config", "errors", "files"}


def test_no_module_imports_in_a_circle():
    state = {}

    def visit(name, trail):
        if name not in MODULES or state.get(name) == "done":
            return
        assert state.get(name) != "open", " -> ".join([*trail, name])
        state[name] = "open"
        for other in sorted(imports(MODULES[name]) - {name}):
            # A room's __init__ runs before its files: what they import from it would be a circle, from the room itself.
            visit(other, [*trail, name])
        state[name] = "done"

    for name in MODULES:
        visit(name, [])
