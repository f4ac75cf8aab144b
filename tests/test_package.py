"""The package as a whole: a light import, the backend, documentation, and who may know what."""

import ast
import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

import vampzoo

SOURCES = sorted(pathlib.Path(vampzoo.__file__).parent.rglob("*.py"))


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_import_is_light():
    heavy = "{'tensorflow', 'keras', 'numpy', 'tensorflow_probability', 'tensorflow_datasets', 'matplotlib', 'scipy'}"
    done = python(
        f"import vampzoo, vampzoo.config, sys; loaded = {heavy} & set(sys.modules); assert not loaded, loaded"
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_said_at_the_start():
    """Nine of the first fourteen lines were TensorFlow's, and one of them spoke of an error."""
    code = "import vampzoo, tensorflow as tf; vampzoo.models; print(tf.config.list_logical_devices()[0].name)"
    done = python(code, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0 and "device:CPU:0" in done.stdout
    assert done.stderr == ""


def test_what_is_no_notice_is_said_after_all():
    code = (
        "import os, sys; from vampzoo import quiet\n"
        "with quiet.notices_dropped():\n"
        "    os.write(2, b'I0000 port.cc:153] oneDNN custom operations are on. You may\\nfrom C++\\n')\n"
        "    print('from Python', file=sys.stderr)\n"
        "print('after', file=sys.stderr)"
    )
    assert python(code).stderr == "from C++\nfrom Python\nafter\n"


def test_another_keras_backend_is_refused_at_once():
    done = python("import vampzoo", KERAS_BACKEND="jax")
    assert done.returncode != 0
    assert "vampzoo needs Keras' TensorFlow backend, but KERAS_BACKEND='jax'" in done.stderr
    assert python("import vampzoo", KERAS_BACKEND="tensorflow").returncode == 0


def test_names():
    assert importlib.metadata.version("vampzoo") == vampzoo.__version__
    assert set(vampzoo.__all__) <= set(dir(vampzoo))
    for name in vampzoo._SUBMODULES:
        assert importlib.util.find_spec(f"vampzoo.{name}"), name
    assert callable(vampzoo.random.key) and callable(vampzoo.client.Client)  # as the development server prints it
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = vampzoo.nonsense


def public_definitions(path):
    """(name, node) of a module and of its public classes and functions."""
    module = ast.parse(path.read_text())
    yield "module", module
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
            for member in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                    yield f"{node.name}.{member.name}", member


# What a framework calls or a base class of ours has explained.
OVERRIDING = {
    "add_weight",
    "bootstrap_results",
    "is_calibrated",
    "one_step",
    "build",
    "call",
    "compute_output_shape",
    "forward",
    "get_config",
    "step",
    "update_step",
}
OVERRIDING |= {"compile_from_config", "get_compile_config", "make_test_function", "make_train_function", "metrics"}
OVERRIDING |= {"from_config", "test_step", "train_step"}
OVERRIDING |= {
    name.split(".")[1]
    for path in SOURCES
    for name, node in public_definitions(path)
    if "." in name and ast.get_docstring(node)
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(pathlib.Path(vampzoo.__file__).parent)))
def test_every_public_definition_has_a_docstring(path):
    missing = [
        name
        for name, node in public_definitions(path)
        if not ast.get_docstring(node)
        and not (name == "module" and not node.body)
        and name != "main"
        and name.split(".")[-1] not in OVERRIDING
    ]
    assert not missing


PROGRAMS = tuple(path.name for path in SOURCES if 'if __name__ == "__main__"' in path.read_text())


@pytest.mark.parametrize(
    ("word", "where"),
    [
        ("Strategy(", ("training",)),  # of tf.distribute
        ("tensorflow_datasets", ("datasets",)),
        ("flags.DEFINE", (*PROGRAMS, "program.py")),
    ],
)
def test_only_some_know(word, where):
    package = pathlib.Path(vampzoo.__file__).parent
    users = {str(path.relative_to(package)) for path in SOURCES if word in path.read_text()}
    assert users and not {user for user in users if not user.startswith(where)}
