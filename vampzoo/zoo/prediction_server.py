"""A server around a SavedModel, for development: what TensorFlow Serving does with a request by gRPC or REST, no more.

No batching, no monitoring, no limits on connections: TensorFlow Serving is for production. It runs the model with
TensorFlow alone: neither the zoo's models nor Keras are imported. The REST half follows TensorFlow Serving's documentation
of its columnar form.
"""

import concurrent.futures
import contextlib
import http.server
import json
import pathlib
import re
import threading

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from vampzoo.errors import InvalidValue

OPTIONS = [("grpc.max_send_message_length", 64 * 2**20), ("grpc.max_receive_message_length", 64 * 2**20)]
MAX_BODY_BYTES = 64 * 2**20  # of a REST request, as of a message by gRPC
HTTP_STATUS = {grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.INVALID_ARGUMENT: 400}


class Refused(Exception):
    """What the server answers to a request that it cannot serve: a status code and a message."""


class ServedModel:
    """The signatures of one SavedModel under a name.

    Args:
        export_dir: the folder of one version, whose name is its number, .../1.
        name: under which it is asked for.
    """

    def __init__(self, export_dir, name):
        self.name = name
        self.version = int(pathlib.Path(export_dir).name)
        self.model = tf.saved_model.load(str(export_dir))

    def check_name(self, model_name, version=None):
        """Refuses another name than the model's, and another version if one is asked for."""
        if model_name != self.name:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"no model {model_name!r}; there is {self.name!r}")
        if version not in (None, self.version):
            raise Refused(grpc.StatusCode.NOT_FOUND, f"no version {version} of {self.name!r}; there is {self.version}")

    def _find(self, model_name, signature_name):
        """The name of a signature, the default's for none, and the signature."""
        self.check_name(model_name)
        signature_name = signature_name or "serving_default"
        if signature_name not in self.model.signatures:
            names = ", ".join(sorted(self.model.signatures))
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"no signature {signature_name!r}; there are {names}")
        return signature_name, self.model.signatures[signature_name]

    def input_names(self, model_name, signature_name):
        """The names of what a signature takes."""
        return set(self._find(model_name, signature_name)[1].structured_input_signature[1])

    def signature(self, model_name, signature_name, input_names):
        """The signature of that name, once it is known to exist and to take these inputs."""
        signature_name, signature = self._find(model_name, signature_name)
        specs = signature.structured_input_signature[1]
        if set(input_names) != set(specs):
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT, f"{signature_name} takes {sorted(specs)}, got {sorted(input_names)}"
            )
        return signature

    def predict(self, model_name, signature_name, inputs):
        """The signature's outputs for {name: NumPy array}."""
        signature = self.signature(model_name, signature_name, inputs)
        try:
            outputs = signature(**{name: tf.constant(value) for name, value in inputs.items()})
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:  # of a wrong rank, shape or type
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        return {name: value.numpy() for name, value in outputs.items()}


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The gRPC half.

    Args:
        served: a `ServedModel`.
    """

    def __init__(self, served):
        self.served = served

    def GetModelMetadata(self, request, context):
        """What inputs each signature takes and what it gives: types and shapes."""
        try:
            self.served.check_name(request.model_spec.name, _version(request.model_spec))
        except Refused as refusal:
            context.abort(*refusal.args)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in self.served.model.signatures.items():
            described = signatures.signature_def[name]
            takes, gives = signature.structured_input_signature[1], signature.structured_outputs
            for infos, specs in ((described.inputs, takes), (described.outputs, gives)):
                for key, spec in specs.items():
                    infos[key].dtype = spec.dtype.as_datatype_enum
                    infos[key].tensor_shape.CopyFrom(spec.shape.as_proto())
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=self._answered(request.model_spec))
        response.metadata["signature_def"].Pack(signatures)
        return response

    def Predict(self, request, context):
        """The outputs of a signature for the request's inputs."""
        try:
            self.served.check_name(request.model_spec.name, _version(request.model_spec))
            inputs = {name: _to_array(name, value) for name, value in request.inputs.items()}
            outputs = self.served.predict(request.model_spec.name, request.model_spec.signature_name, inputs)
            if unknown := set(request.output_filter) - set(outputs):
                message = f"output_filter names {sorted(unknown)}; the outputs are {sorted(outputs)}"
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, message)
        except Refused as refusal:
            context.abort(*refusal.args)
        wanted = request.output_filter or outputs
        return predict_pb2.PredictResponse(
            model_spec=self._answered(request.model_spec),
            outputs={name: tf.make_tensor_proto(outputs[name]) for name in wanted},
        )

    def _answered(self, model_spec):
        """A request's model with the version that answered it."""
        answered = type(model_spec)()
        answered.CopyFrom(model_spec)
        answered.version.value = self.served.version
        return answered


def _to_array(name, proto):
    """A tensor of a request as an array.

    Raises:
        Refused: if its bytes are not those of its shape and type.
    """
    try:
        return tf.make_ndarray(proto)
    except (ValueError, TypeError, MemoryError) as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"{name} is no tensor: {error}") from error


def _version(model_spec):
    """The version that a request asks for; None if any will do."""
    return model_spec.version.value if model_spec.HasField("version") else None


@contextlib.contextmanager
def serve_grpc(served, host="127.0.0.1", port=0, max_workers=2):
    """A context that serves over gRPC and yields the address.

    Args:
        served: a `ServedModel`.
        host: the interface to listen at; the default is reached from this machine alone.
        port: 0: a free one.
        max_workers: requests that are computed at once.

    Raises:
        InvalidValue: if the port is taken.
    """
    options = [
        *OPTIONS,
        ("grpc.so_reuseport", 0),
    ]  # else a second server would share the port, and each get some requests
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(served), server)
    try:
        port = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise InvalidValue(f"{host}:{port} cannot be listened at: {error}") from error
    server.start()
    try:
        yield f"{host}:{port}"
    finally:
        server.stop(None).wait()


def rest_status(served, path):
    """The HTTP status and the JSON object that answer a GET of `path`: whether the model is ready."""
    try:
        match = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/([0-9]{1,19}))?", path)
        if not match:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"nothing at {path}; there is /v1/models/{served.name}")
        served.check_name(match[1], int(match[2]) if match[2] else None)
    except Refused as refusal:
        code, message = refusal.args
        return HTTP_STATUS[code], {"error": message}
    status = {"error_code": "OK", "error_message": ""}
    return 200, {"model_version_status": [{"version": str(served.version), "state": "AVAILABLE", "status": status}]}


def rest_predict(served, path, body):
    """The HTTP status and the JSON object that answer a POST of `body` to `path`."""
    try:
        match = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/([0-9]{1,19}))?:predict", path)
        if not match:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"no method at {path}")
        served.check_name(match[1], int(match[2]) if match[2] else None)
        try:
            request = json.loads(body)
            values, signature_name = request["inputs"], request.get("signature_name")
            if not isinstance(signature_name, str | None):
                raise TypeError(f"signature_name is no string: {signature_name!r}")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"not a request in columnar form: {error!r}") from error
        if not isinstance(values, dict):  # the tensor itself, which is how a signature's only input may come
            names = served.input_names(match[1], signature_name)
            if len(names) > 1:
                message = f"inputs must be an object with {sorted(names)}, got {values!r:.40}"
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, message)
            values = dict.fromkeys(names, values)
        specs = served.signature(match[1], signature_name, values).structured_input_signature[1]
        if not specs:  # as TensorFlow Serving's JSON parser has it
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "a signature without inputs cannot be asked over REST")
        try:
            inputs = {name: _array(value, specs[name].dtype.as_numpy_dtype) for name, value in values.items()}
        except (ValueError, TypeError, OverflowError) as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        outputs = {name: value.tolist() for name, value in served.predict(match[1], signature_name, inputs).items()}
    except Refused as refusal:
        code, message = refusal.args
        return HTTP_STATUS[code], {"error": message}
    return 200, {"outputs": outputs if len(outputs) > 1 else outputs.popitem()[1]}


def _array(value, dtype):
    """A JSON value as an array.

    Raises:
        ValueError: for strings, truth values, and numbers with a fraction where integers are wanted, which NumPy would take.
    """
    array = np.array(value)
    if array.size and array.dtype.kind not in ("iu" if np.issubdtype(dtype, np.integer) else "iuf"):
        raise ValueError(f"{value!r:.40} is not of the type {np.dtype(dtype).name}")
    return np.array(value, dtype)


@contextlib.contextmanager
def serve_rest(served, host="127.0.0.1", port=0):
    """The same over REST. Arguments as for `serve_grpc`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            length = self.headers["Content-Length"] or ""
            if not (length.isascii() and length.isdigit()):
                self._answer(411, {"error": "a request needs its Content-Length"})
            elif len(length) > 19 or int(length) > MAX_BODY_BYTES:
                self._answer(413, {"error": f"a request may have at most {MAX_BODY_BYTES} bytes"})
            else:
                self._answer(*rest_predict(served, self.path, self.rfile.read(int(length))))

        def do_GET(self):
            self._answer(*rest_status(served, self.path))

        def _answer(self, status, answer):
            with contextlib.suppress(ConnectionError):  # whoever asked has left
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *arguments):
            pass  # whoever asks reads the answers

    try:
        server = http.server.ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise InvalidValue(f"{host}:{port} cannot be listened at: {error.strerror}") from error
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{host}:{server.server_port}"
        server.shutdown()
