"""Signatures, SavedModel and export: the same numbers everywhere, and no request that does harm."""

import http.client
import json
import pathlib
import re
import shutil
import subprocess
import sys

import child_runs
import cpp_loader
import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
import tiny_preset
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, predict_pb2, prediction_log_pb2

import vampzoo
from vampzoo import client, export, files, training, zoo
from vampzoo.config import TrainingConfig
from vampzoo.zoo import prediction_server, serving

SEED = 7  # of the Python methods; a request says the pair
PAIR = [7, 0]
IMAGES = np.random.default_rng(0).integers(0, 2, (3, 8, 8, 1)).astype(np.float32)
Z2 = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)

REQUESTS = {
    "serving_default": {"images": IMAGES},
    "reconstruct": {"images": IMAGES},
    "encode": {"images": IMAGES},
    "decode": {"z2": Z2},
    "sample": {"n": 4, "seed": PAIR},
    "sample_component": {"component": 2, "n": 4, "seed": PAIR},
    "elbo": {"images": IMAGES, "seed": PAIR},
    "log_likelihood": {"images": IMAGES, "num_samples": 1500, "seed": PAIR},
    "pseudo_inputs": {},
}

NAN_IMAGES = np.where(np.arange(8)[:, np.newaxis] == 3, np.nan, IMAGES)  # a column of each

MALFORMED = [
    ("sample", {"n": 0, "seed": PAIR}, "n must be from 1 to 500"),
    ("sample", {"n": -1, "seed": PAIR}, "n must be from 1 to 500"),
    ("sample", {"n": 10**9, "seed": PAIR}, "n must be from 1 to 500"),
    ("sample", {"n": [3, 3], "seed": PAIR}, ""),
    ("sample", {"n": 3, "seed": [1, 2, 3]}, ""),
    ("sample_component", {"component": 5, "n": 3, "seed": PAIR}, "component must be from 0 to 4"),
    ("sample_component", {"component": -1, "n": 3, "seed": PAIR}, "component must be from 0 to 4"),
    ("sample_component", {"component": 0, "n": 10**9, "seed": PAIR}, "n must be from 1 to 500"),
    ("encode", {"images": NAN_IMAGES}, "no NaN"),
    ("reconstruct", {"images": 2 * IMAGES}, r"lie in \[0, 1\]"),
    ("elbo", {"images": NAN_IMAGES, "seed": PAIR}, "no NaN"),
    ("elbo", {"images": 0.5 * IMAGES, "seed": PAIR}, "grey values have no likelihood under a Bernoulli"),
    ("log_likelihood", {"images": 0.5 * IMAGES, "num_samples": 5, "seed": PAIR}, "images must be 0 or 1"),
    ("encode", {"images": IMAGES.reshape(3, 4, 16, 1)}, ""),  # as many pixels, another shape
    ("encode", {"images": IMAGES[..., 0]}, ""),
    ("encode", {"images": IMAGES[:0]}, "number of images must be from 1 to 1000"),
    ("encode", {"images": np.zeros((1001, 8, 8, 1))}, "number of images must be from 1 to 1000"),
    ("decode", {"z2": np.zeros((2, 5))}, ""),
    ("decode", {"z2": np.full((2, 4), np.inf)}, "latents must be finite"),
    ("log_likelihood", {"images": IMAGES, "num_samples": 0, "seed": PAIR}, "num_samples must be from 1 to 10000"),
    ("log_likelihood", {"images": IMAGES, "num_samples": 10**9, "seed": PAIR}, "num_samples must be from 1 to 10000"),
    ("log_likelihood", {"images": NAN_IMAGES, "num_samples": 5, "seed": PAIR}, "no NaN"),
]


def python_answers(model):
    """What the Python methods say to `REQUESTS`."""
    encoded = model.encode(IMAGES)
    reconstruction = {"images": model.reconstruct(IMAGES)}
    return {
        "serving_default": reconstruction,
        "reconstruct": reconstruction,
        "encode": {
            f"{name}_{what}": value
            for name, pair in encoded.items()
            for what, value in zip(("mean", "scale"), pair, strict=True)
        },
        "decode": {"images": model.decode(Z2).numpy()},
        "sample": {"images": model.sample(4, seed=SEED)},
        "sample_component": {"images": model.sample(4, seed=SEED, component=2)},
        "elbo": {"elbo": model.elbo(IMAGES, seed=SEED)},
        "log_likelihood": {"log_likelihood": model.log_likelihood(IMAGES, 1500, seed=SEED, jit_compile=False)},
        "pseudo_inputs": {"pseudo_inputs": model.pseudo_inputs.numpy()},
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return tiny_preset.write_zoo(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="module")
def model(exported):
    return exported[2]


@pytest.fixture(scope="module")
def preset(exported):
    return exported[1] / tiny_preset.NAME


@pytest.fixture(scope="module")
def expected(model):
    return python_answers(model)


def assert_same(answer, expected):
    for key, value in expected.items():
        np.testing.assert_allclose(answer[key], value, rtol=1e-5, atol=1e-5, err_msg=key)


# === The SavedModel ===


def test_cpp_loader_gives_the_numbers_of_python_and_refuses_malformed_requests(preset, expected):
    requests = [*REQUESTS.items(), *((signature, inputs) for signature, inputs, _ in MALFORMED), ("pseudo_inputs", {})]
    answers = cpp_loader.run(preset / "1", requests)
    for signature, answer in zip(REQUESTS, answers, strict=False):
        assert not isinstance(answer, str), f"{signature}: {answer}"
        assert_same(answer, expected[signature])
    terms = answers[list(REQUESTS).index("elbo")]
    np.testing.assert_allclose(-terms["distortion"] - terms["rate"], terms["elbo"], rtol=1e-5)
    for (signature, inputs, message), answer in zip(MALFORMED, answers[len(REQUESTS) :], strict=False):
        assert isinstance(answer, str), f"{signature} took {inputs}"
        assert message.replace("\\", "") in answer
    assert_same(answers[-1], expected["pseudo_inputs"])  # and it goes on


def test_other_shapes_are_named_where_only_the_graph_sees_them(preset):
    requests = [("encode", {"images": IMAGES[0]}), ("reconstruct", {"images": IMAGES[0, ..., 0]})]
    requests += [("encode", {"images": np.float32(1)}), ("elbo", {"images": IMAGES[np.newaxis], "seed": PAIR})]
    requests += [("decode", {"z2": Z2[0]}), ("decode", {"z2": np.zeros((2, 5), np.float32)})]
    for (signature, inputs), answer in zip(requests, cpp_loader.run(preset / "1", requests), strict=True):
        wanted = (
            "latents must have shape [B, 4], got"
            if signature == "decode"
            else "images must have shape [B, 8, 8, 1], got"
        )
        assert isinstance(answer, str) and wanted in answer, (inputs, answer)


def test_runs_with_tensorflow_alone(preset, expected, tmp_path):
    code = (
        "import sys\n"
        "for name in ('vampzoo', 'keras', 'tensorflow_probability'): sys.modules[name] = None  # importing it fails\n"
        "import numpy as np, tensorflow as tf\n"
        "sample = tf.saved_model.load(sys.argv[1]).signatures['sample']\n"
        "np.save(sys.argv[2], sample(n=tf.constant(4), seed=tf.constant([7, 0]))['images'])\n"
    )
    out = tmp_path / "images.npy"
    subprocess.run([sys.executable, "-c", code, str(preset / "1"), str(out)], check=True, cwd=tmp_path)
    assert_same({"images": np.load(out)}, expected["sample"])


def test_graph_holds_no_python_function_and_nothing_compiled(preset):
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel.FromString((preset / "1" / "saved_model.pb").read_bytes())
    graph = saved_model.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    assert len(nodes) > 100
    assert not {node.op for node in nodes} & {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
    compiled = [f.signature.name for f in graph.library.function if f.attr["_XlaMustCompile"].b]
    assert not compiled


def test_every_variable_is_stored_once(preset, model):
    checkpoint = tf.train.load_checkpoint(str(preset / "1" / "variables" / "variables"))
    shapes = {k: v for k, v in checkpoint.get_variable_to_shape_map().items() if k != "_CHECKPOINTABLE_OBJECT_GRAPH"}
    mixture = 5 + 2 * 5 * 4  # logits, means and log-variances
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == model.count_params() + mixture


def test_pseudo_inputs_are_encoded_at_export_only(model):
    served = serving.ServedModel(model)
    signatures = served.signatures()
    raw = model.prior_layer.raw_pseudo_inputs.value
    for name in ("sample", "sample_component", "elbo", "log_likelihood"):
        function, specs = signatures[name]
        graph = tf.function(function, input_signature=specs).get_concrete_function().graph
        assert not any(variable is raw for variable in graph.variables), name
        assert any(variable is served.prior_variables[1] for variable in graph.variables), name


def test_warmup_has_one_request_for_each_signature_and_they_run(preset):
    path = preset / "1" / "assets.extra" / "tf_serving_warmup_requests"
    logs = [prediction_log_pb2.PredictionLog.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    requests = [log.predict_log.request for log in logs]
    names = [request.model_spec.signature_name for request in requests]
    assert sorted([*names, "serving_default"]) == sorted(REQUESTS)
    assert {request.model_spec.name for request in requests} == {tiny_preset.NAME}
    service = prediction_server.PredictionService(prediction_server.ServedModel(preset / "1", tiny_preset.NAME))
    for request in requests:
        assert service.Predict(request, context=None).outputs


@pytest.mark.parametrize(
    ("fields", "absent"),
    [
        ({"model": "vae", "prior": "standard"}, {"sample_component", "pseudo_inputs"}),
        ({"prior": "mog", "likelihood": "discretized_logistic"}, {"pseudo_inputs"}),
        ({"model": "vae", "prior": "vampprior", "weighted": True}, set()),
    ],
)
def test_signatures_fit_the_model(fields, absent):
    from vampzoo import models

    model = models.create(tiny_preset.config(**fields), seed=2)
    served = serving.ServedModel(model)
    signatures = served.signatures()
    assert set(REQUESTS) - {"serving_default"} - set(signatures) == absent
    top = next(iter(model.latent_sizes))
    assert [spec.name for spec in signatures["decode"][1]] == [top]
    assert set(served.encode(IMAGES)) == {f"{z}_{what}" for z in model.latent_sizes for what in ("mean", "scale")}
    images = served.sample(tf.constant(3), tf.constant(PAIR))["images"]
    np.testing.assert_allclose(images, model.sample(3, seed=SEED), atol=1e-6)
    elbo = served.elbo(tf.constant(IMAGES), tf.constant(PAIR))["elbo"]
    np.testing.assert_allclose(elbo, model.elbo(IMAGES, seed=SEED), rtol=1e-5)


# === Over a connection ===


@pytest.fixture(scope="module")
def ask(preset):
    with prediction_server.serve_grpc(prediction_server.ServedModel(preset / "1", tiny_preset.NAME)) as address:
        asker = client.Client(address, tiny_preset.NAME)
        yield asker
        asker.close()


@pytest.mark.parametrize("signature", REQUESTS)
def test_served_numbers_are_those_of_python(ask, expected, signature):
    assert_same(ask(signature, **REQUESTS[signature]), expected[signature])


@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint8, np.float64])
def test_the_client_sends_what_the_signature_takes(ask, expected, dtype):
    images = REQUESTS["elbo"]["images"]
    given = {**REQUESTS["elbo"], "images": np.asarray(images).astype(dtype)}
    if np.array_equal(given["images"], images):
        assert_same(ask("elbo", **given), expected["elbo"])
    else:  # grey values do not survive the type: the numbers are of other images, but there are numbers
        assert np.isfinite(ask("elbo", **given)["elbo"]).all()
    with pytest.raises(ValueError, match="must be whole numbers"):
        ask("sample", n=1.5, seed=PAIR)
    with pytest.raises(ValueError, match="must be whole numbers"):
        ask("sample", n=float("inf"), seed=PAIR)


def test_raw_requests_are_answered_like_those_of_the_client(ask):
    model = model_pb2.ModelSpec(name=tiny_preset.NAME, signature_name="elbo")
    inputs = {"images": tf.make_tensor_proto(IMAGES), "seed": tf.make_tensor_proto(PAIR, tf.int32)}

    def refusal(**request):
        with pytest.raises(grpc.RpcError) as caught:
            ask._service.Predict(predict_pb2.PredictRequest(model_spec=model, **request))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        return caught.value.details()

    answer = ask._service.Predict(predict_pb2.PredictRequest(model_spec=model, inputs=inputs, output_filter=["rate"]))
    assert list(answer.outputs) == ["rate"] and answer.model_spec.version.value == 1
    assert "the outputs are ['distortion', 'elbo', 'rate']" in refusal(inputs=inputs, output_filter=["kl"])
    cut = tf.make_tensor_proto(IMAGES)
    cut.tensor_content = cut.tensor_content[:7]
    huge = tf.make_tensor_proto(IMAGES)
    huge.tensor_shape.dim[0].size = 10**12
    for damaged in (cut, huge, type(cut)()):
        assert "images is no tensor" in refusal(inputs={**inputs, "images": damaged})
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=model, metadata_field=["signature_def"])
    signatures = get_model_metadata_pb2.SignatureDefMap()
    ask._service.GetModelMetadata(request).metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == set(REQUESTS)
    assert set(signatures.signature_def["elbo"].outputs) == {"elbo", "distortion", "rate"}


def test_the_clients_connection_is_closed_and_encrypted_if_credentials_are_given(monkeypatch):
    credentials, made = grpc.ssl_channel_credentials(), []
    secure_channel = grpc.secure_channel
    monkeypatch.setattr(grpc, "secure_channel", lambda *a, **how: made.append(a) or secure_channel(*a, **how))
    with client.Client("localhost:1", "name", credentials=credentials) as asker:
        assert made == [("localhost:1", credentials)]
    with pytest.raises(ValueError, match="closed"):
        asker("sample", n=1, seed=PAIR)


def test_a_port_that_is_taken_is_not_shared(preset):
    served = prediction_server.ServedModel(preset / "1", tiny_preset.NAME)
    with prediction_server.serve_grpc(served) as address:
        port = int(address.rsplit(":", 1)[1])
        with (
            pytest.raises(ValueError, match=f"{port} cannot be listened at"),
            prediction_server.serve_grpc(served, port=port),
        ):
            pass


def test_the_development_server_serves_a_preset(preset):
    command = [sys.executable, "-m", "vampzoo.serve", f"--name={preset}", "--port=0", "--rest_port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        address, name = re.search(r"Client\('(.+)', '(.+)'\)", lines[1]).groups()
        with_grpc = client.Client(address, name)("sample", n=2, seed=PAIR)["images"]
        request = {"signature_name": "sample", "inputs": {"n": 2, "seed": PAIR}}
        with_rest = requests.post(lines[2].split()[1], json=request).json()["outputs"]
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
    np.testing.assert_allclose(with_grpc, vampzoo.load(preset).sample(2, seed=SEED), atol=1e-6)
    np.testing.assert_allclose(with_rest, with_grpc, atol=1e-6)


@pytest.mark.parametrize(("signature", "inputs", "message"), MALFORMED)
def test_malformed_request_is_refused_and_the_server_goes_on(ask, expected, signature, inputs, message):
    with pytest.raises(grpc.RpcError, match=message or None) as caught:
        ask(signature, **inputs)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert_same(ask("pseudo_inputs"), expected["pseudo_inputs"])


def test_unknown_names_are_refused_and_the_server_goes_on(ask, expected):
    for signature, inputs in (
        ("smaple", {"n": 1, "seed": PAIR}),
        ("sample", {"n": 1}),
        ("sample", {"m": 1, "seed": PAIR}),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            ask(signature, **inputs)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert_same(ask("pseudo_inputs"), expected["pseudo_inputs"])


@pytest.fixture(scope="module")
def rest_ask(preset):
    """`ask` of the REST section of docs/serving.md, sent to a server here."""
    readme = (pathlib.Path(__file__).parent.parent / "docs" / "serving.md").read_text()
    code = re.search(r"## REST.*?```python\n(.*?)\nimages = ask", readme, re.DOTALL)[1]
    with prediction_server.serve_rest(prediction_server.ServedModel(preset / "1", tiny_preset.NAME)) as address:
        code = code.replace("localhost:8501", address).replace("hvae_vampprior_caltech101", tiny_preset.NAME)
        names = {}
        exec(code, names)
        yield names["ask"], address


def as_json(inputs):
    return {name: np.asarray(value).tolist() for name, value in inputs.items()}


@pytest.mark.parametrize("signature", sorted(set(REQUESTS) - {"pseudo_inputs"}))
def test_numbers_over_rest_are_those_of_python(rest_ask, expected, signature):
    answer = rest_ask[0](signature, **as_json(REQUESTS[signature]))
    if not isinstance(answer, dict):  # an only output comes without its name
        answer = {next(iter(expected[signature])): answer}
    answer = {name: np.array(value, np.float32) for name, value in answer.items()}
    assert_same({name: answer[name] for name in expected[signature]}, expected[signature])


@pytest.mark.parametrize(("signature", "inputs", "message"), MALFORMED)
def test_malformed_rest_request_is_refused_and_the_server_goes_on(rest_ask, expected, signature, inputs, message):
    ask, address = rest_ask
    body = json.dumps(
        {"signature_name": signature, "inputs": as_json(inputs)}
    )  # with NaN, which `requests` would not send
    url = f"http://{address}/v1/models/{tiny_preset.NAME}:predict"
    answer = requests.post(url, data=body, timeout=60)
    assert answer.status_code == 400
    if np.size(inputs.get("images", 1)) == 0:  # the empty list of JSON has no further dimensions
        message = r"images must have shape \[B, 8, 8, 1\], got\] \[0\]"
    assert re.search(message, answer.json()["error"])
    sample = np.array(ask("sample", **as_json(REQUESTS["sample"])), np.float32)
    assert_same({"images": sample}, expected["sample"])


@pytest.mark.parametrize(
    ("signature", "inputs", "status"),
    [
        ("encode", IMAGES, 200),
        ("sample", [1, 0], 400),
        ("sample", 3, 400),
        ("pseudo_inputs", 3, 400),
        ("encode", "a", 400),
    ],
)
def test_an_only_input_may_come_without_its_name(rest_ask, signature, inputs, status):
    body = {"signature_name": signature, "inputs": np.asarray(inputs).tolist()}
    url = f"http://{rest_ask[1]}/v1/models/{tiny_preset.NAME}:predict"
    answer = requests.post(url, json=body, timeout=60)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["outputs"] == rest_ask[0](signature, images=body["inputs"])


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("tiny:predict", "{", 400),
        ("tiny:predict", '{"instances": [1]}', 400),
        ("tiny:predict", '{"signature_name": "smaple", "inputs": {"n": 1, "seed": [1, 0]}}', 400),
        ("tiny:predict", '{"signature_name": "pseudo_inputs", "inputs": {}}', 400),
        ("tiny:predict", '{"signature_name": ["sample"], "inputs": {"n": 1, "seed": [1, 0]}}', 400),
        ("tiny:predict", '{"signature_name": "sample", "inputs": {"n": 2.9, "seed": [1, 0]}}', 400),
        ("tiny:predict", '{"signature_name": "sample", "inputs": {"n": 1, "seed": [1.7, 0]}}', 400),
        ("tiny:predict", '{"signature_name": "sample", "inputs": {"n": "1", "seed": [1, 0]}}', 400),
        ("tiny:predict", '{"signature_name": "sample", "inputs": {"n": true, "seed": [1, 0]}}', 400),
        ("tiny:predict", '{"inputs": ' + "[" * 100_000, 400),
        ("tiny/versions/2:predict", '{"signature_name": "sample", "inputs": {"n": 1, "seed": [1, 0]}}', 404),
        ("other:predict", '{"signature_name": "sample", "inputs": {"n": 1, "seed": [1, 0]}}', 404),
        ("tiny:classify", "{}", 404),
    ],
)
def test_what_is_no_rest_request_is_refused(rest_ask, path, body, status):
    path = path.replace("tiny", tiny_preset.NAME)
    answer = requests.post(f"http://{rest_ask[1]}/v1/models/{path}", data=body, timeout=60)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_a_request_without_its_length_is_refused(rest_ask):
    url = f"http://{rest_ask[1]}/v1/models/{tiny_preset.NAME}:predict"
    answer = requests.post(url, data=iter([b"{}"]), timeout=60)  # in chunks
    assert answer.status_code == 411
    assert answer.json()["error"]


def test_a_request_that_is_too_large_is_refused_before_it_is_read(rest_ask):
    host, _, port = rest_ask[1].partition(":")
    for length in ("999999999999", "9" * 23):
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        connection.putrequest("POST", f"/v1/models/{tiny_preset.NAME}:predict")
        connection.putheader("Content-Length", length)
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413 and "at most 67108864 bytes" in json.loads(answer.read())["error"]
        connection.close()


@pytest.mark.parametrize(
    ("path", "status"), [("", 200), ("/versions/1", 200), ("/versions/2", 404), ("2", 404), (":predict", 404)]
)
def test_a_get_says_whether_the_model_is_ready(rest_ask, path, status):
    answer = requests.get(f"http://{rest_ask[1]}/v1/models/{tiny_preset.NAME}{path}", timeout=60)
    assert answer.status_code == status
    if status == 200:
        [version] = answer.json()["model_version_status"]
        assert (version["version"], version["state"]) == ("1", "AVAILABLE")
    else:
        assert answer.json()["error"]


def test_another_version_than_is_asked_for_is_not_served(preset, expected, rest_ask):
    path = f"http://{rest_ask[1]}/v1/models/{tiny_preset.NAME}/versions/1:predict"
    body = {"signature_name": "sample", "inputs": as_json(REQUESTS["sample"])}
    images = np.array(requests.post(path, json=body, timeout=60).json()["outputs"], np.float32)
    assert_same({"images": images}, expected["sample"])
    with prediction_server.serve_grpc(prediction_server.ServedModel(preset / "1", tiny_preset.NAME)) as address:
        first, second = (client.Client(address, tiny_preset.NAME, version=version) for version in (1, 2))
        assert_same(first("sample", **REQUESTS["sample"]), expected["sample"])
        with pytest.raises(grpc.RpcError) as caught:
            second("sample", **REQUESTS["sample"])
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("arguments", [["--name=hf://me/hvae_x"], ["--name=hvae_x", "--zoo_dir=hf://me"]])
def test_a_graph_from_the_hub_is_not_run_unless_asked_for(arguments):
    code, _, error = child_runs.call(child_runs.run_program, "serve", *arguments)
    assert code == 1 and "--trust is missing: to serve a preset is to run its graph" in error


# === The export program ===


def test_preset_is_whole_and_loads_as_the_run_does(exported, preset, model):
    zoo.verify(preset)
    listed = {line.split("  ")[1] for line in (preset / "SHA256SUMS").read_text().splitlines()}
    assert {"README.md", "config.json", "metrics.json", "samples.png", "train.flags"} < listed
    assert {"1/saved_model.pb", "1/assets.extra/tf_serving_warmup_requests", "1/assets.extra/weights.json"} < listed
    assert "model.weights.h5" not in listed  # the weights are there once
    assert {path.name for path in exported[1].iterdir()} == {
        tiny_preset.NAME,
        "index.json",
    }  # no temporary folder stays
    loaded = vampzoo.load(tiny_preset.NAME, zoo_dir=exported[1])
    np.testing.assert_array_equal(loaded.sample(2, seed=SEED), model.sample(2, seed=SEED))
    assert loaded.title == tiny_preset.NAME


def test_card_and_metrics_say_what_was_measured(preset):
    metrics = json.loads((preset / "metrics.json").read_text())
    assert metrics["evaluation"] == tiny_preset.EVALUATION
    assert metrics["training"] == {"epochs": 3, "best_epoch": 2, "selection": "elbo", "best_validation": -52.75}
    text = (preset / "README.md").read_text()
    for words in (
        "-50.12 ± 1.25",
        "-51.25 ± 1.50",
        "12 images of the test split",
        "S = 50 ",
        "after epoch 2",
        "DejaVu",
    ):
        assert words in text
    flags = (preset / "train.flags").read_text()
    assert flags == "--dataset=glyphs\n--seed=3\n"


def test_further_export_takes_the_next_number_and_keeps_the_first(exported, tmp_path):
    run, folder, _ = exported
    copy = shutil.copytree(folder, tmp_path / "zoo")
    (copy / f".writing.{tiny_preset.NAME}.killed_8").mkdir()  # left by an export that was killed
    preset = export.export_preset(run, tiny_preset.NAME, copy, note="Drawn by hand.")
    zoo.verify(preset)
    assert zoo.latest_version(preset) == 2
    first = "1/saved_model.pb"
    assert files.sha256(preset / first) == files.sha256(folder / tiny_preset.NAME / first)
    assert "Drawn by hand." in (preset / "README.md").read_text()
    assert {path.name for path in copy.iterdir()} == {tiny_preset.NAME, "index.json"}


def broken(run, tmp_path, file, text):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / file).unlink()
    if text is not None:
        (copy / file).write_text(text)
    return copy


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("evaluation.json", None, r"evaluation\.json is missing: run `python -m vampzoo\.evaluate"),
        ("evaluation.json", "{", r"evaluation\.json is damaged"),
        ("evaluation.json", json.dumps({**tiny_preset.EVALUATION, "elbo": float("nan")}), r"elbo is nan"),
        ("evaluation.json", json.dumps({**tiny_preset.EVALUATION, "split": "validation"}), r"the validation split"),
        ("evaluation.json", json.dumps({**tiny_preset.EVALUATION, "fingerprint": "1" * 64}), r"about other data"),
        ("evaluation.json", json.dumps({**tiny_preset.EVALUATION, "weights_sha256": "1"}), r"about other weights"),
        ("history.csv", None, r"history\.csv is missing"),
        ("history.csv", "epoch,validation_elbo\n", r"history\.csv has no rows"),
        ("history.csv", "epoch,validation_elbo\n1,x\n", r"history\.csv is damaged"),
        ("train.flags", None, r"train\.flags is missing"),
        ("model.weights.h5", None, r"model\.weights\.h5 is missing"),
    ],
)
def test_incomplete_run_is_refused_and_nothing_is_written(exported, tmp_path, file, text, message):
    run = broken(exported[0], tmp_path, file, text)
    with pytest.raises(zoo.ZooError, match=message):
        export.export_preset(run, "tiny", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("from_data", [False, True])
def test_training_images_are_not_exported_unless_asked_for(tmp_path, from_data):
    tiny_preset.write_run(tmp_path / "run", prior="vampprior" if from_data else "vampprior_data")
    path = tmp_path / "run" / "config.json"
    settings = json.loads(path.read_text())
    settings["training"]["pseudo_inputs_from_data"] = from_data
    path.write_text(json.dumps(settings))
    with pytest.raises(zoo.ZooError, match=r"training images.*--allow_training_images"):
        export.export_preset(tmp_path / "run", "tiny", tmp_path)


def test_what_began_as_data_is_known_of_loaded_models_and_of_what_they_are_trained_to(tmp_path):
    tiny_preset.write_run(tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    settings = json.loads(path.read_text())
    settings["training"]["pseudo_inputs_from_data"] = True
    path.write_text(json.dumps(settings))
    model = vampzoo.load(tmp_path / "run")
    assert model.prior_layer.began_as_data
    further = training.run_config(model, TrainingConfig(), settings["data"])
    assert not further["training"]["pseudo_inputs_from_data"] and zoo.shows_training_images(further)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name=tiny"], "--run_dir is missing"),
        (["--run_dir=absent", "--name=Tiny Model"], "the name 'Tiny Model' may consist"),
        (["--run_dir=absent", "--name=tiny", "--license=All rights reserved"], "license='All rights reserved'"),
        (["--run_dir=absent", "--name=tiny", "--zoo_dir=."], "the run folder absent does not exist"),
        (
            ["--run_dir=absent", "--name=tiny", "--zoo_dir=hf://me"],
            "zoo_dir=hf://me is on the hub; here a folder is needed",
        ),
    ],
)
def test_program_says_what_is_wrong(arguments, message, tmp_path):
    command = [sys.executable, "-m", "vampzoo.export", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
