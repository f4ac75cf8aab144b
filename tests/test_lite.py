"""TensorFlow Lite: deterministic signatures of a preset convert, and give what the SavedModel gives."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
import tiny_preset

INPUTS = {
    "reconstruct": {"images": np.random.default_rng(0).integers(0, 2, (3, 8, 8, 1)).astype(np.float32)},
    "encode": {"images": np.random.default_rng(1).integers(0, 2, (2, 8, 8, 1)).astype(np.float32)},
    "decode": {"z2": np.random.default_rng(2).standard_normal((3, 4)).astype(np.float32)},
}


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    _, zoo_dir, _ = tiny_preset.write_zoo(tmp_path_factory.mktemp("lite"))
    return str(zoo_dir / tiny_preset.NAME / "1")


def interpreter_of(package):
    """The interpreter of the package ai-edge-litert (extra `lite`), or the one that TensorFlow still has."""
    if package == "tensorflow":
        return tf.lite.Interpreter
    return pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra `lite`").Interpreter


@pytest.mark.parametrize("package", ["tensorflow", "ai_edge_litert"])
@pytest.mark.parametrize("signature", INPUTS)
def test_signatures_convert_and_match(saved_model, signature, package):
    make = interpreter_of(package)
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=[signature])
    content = converter.convert()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's says that its interpreter moves to the other package
        runner = make(model_content=content).get_signature_runner(signature)
    inputs = INPUTS[signature]
    expected = tf.saved_model.load(saved_model).signatures[signature](**inputs)
    found = runner(**inputs)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=0, atol=3e-6)
