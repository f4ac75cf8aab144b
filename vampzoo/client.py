"""Asks a served model over gRPC.

    ask = vampzoo.client.Client("localhost:8500", "hvae_vampprior_caltech101")
    images = ask("sample", n=16, seed=[1, 0])["images"]  # [16, 28, 28, 1]

Over REST no client is needed: a request is one call of `requests.post`, see docs/serving.md.
"""

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, predict_pb2, prediction_service_pb2_grpc

MAX_MESSAGE_BYTES = 64 * 2**20  # gRPC's own limit of 4 MiB is fewer than 1,400 images


class Client:
    """Calls the signatures of `vampzoo.zoo.serving` on TensorFlow Serving or any other PredictionService.

    Args:
        address: "host:port" of the gRPC endpoint.
        name: of the model on the server.
        timeout: seconds to wait for an answer.
        version: of the model; None: the server's latest.
        credentials: of the connection, `grpc.ssl_channel_credentials()` for TLS say; None: it is not encrypted.

    It is a context manager, which closes the connection at its end.
    """

    def __init__(self, address, name, timeout=60.0, version=None, credentials=None):
        sizes = [(f"grpc.max_{way}_message_length", MAX_MESSAGE_BYTES) for way in ("send", "receive")]
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=sizes)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=sizes)
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._name = name
        self._timeout = timeout
        self._version = version
        self._dtypes = None  # {signature: {input: NumPy type}}, once the server has been asked

    def __call__(self, signature, **inputs):
        """Returns {output: NumPy array} of a signature for its inputs, given as arrays or numbers.

        Numbers become what the signature takes, which the server is asked for once: images may be bool, integers (0 or 1) or
        floats.

        Raises:
            ValueError: for a number that the signature's type cannot hold, or a fraction where that is an integer.
            grpc.RpcError: what the server answered: INVALID_ARGUMENT for inputs that the model refuses, NOT_FOUND for a
                model that it does not serve; or UNAVAILABLE, DEADLINE_EXCEEDED.
        """
        dtypes = self._input_types().get(signature, {})
        request = predict_pb2.PredictRequest(
            model_spec=self._model(signature_name=signature),
            inputs={key: _to_proto(key, value, dtypes.get(key)) for key, value in inputs.items()},
        )
        response = self._service.Predict(request, timeout=self._timeout)
        return {key: tf.make_ndarray(proto) for key, proto in response.outputs.items()}

    def _model(self, **fields):
        spec = model_pb2.ModelSpec(name=self._name, **fields)
        if self._version is not None:
            spec.version.value = self._version
        return spec

    def _input_types(self):
        if self._dtypes is None:
            request = get_model_metadata_pb2.GetModelMetadataRequest(
                model_spec=self._model(), metadata_field=["signature_def"]
            )
            response = self._service.GetModelMetadata(request, timeout=self._timeout)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            response.metadata["signature_def"].Unpack(signatures)
            self._dtypes = {
                name: {key: tf.as_dtype(info.dtype).as_numpy_dtype for key, info in signature.inputs.items()}
                for name, signature in signatures.signature_def.items()
            }
        return self._dtypes

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Closes the connection."""
        self._channel.close()


def _to_proto(name, value, dtype=None):
    """A value as a tensor of the type that the signature takes; of an input that it does not take, as it comes."""
    value = np.asarray(value)
    if value.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, not {value.dtype}")
    if dtype is None:
        dtype = np.int32 if value.dtype.kind in "biu" else np.float32
    if np.issubdtype(dtype, np.integer) and value.size:
        limits = np.iinfo(dtype)
        if not (np.isfinite(value).all() and np.array_equal(value, np.floor(value))):
            raise ValueError(f"{name}={value} must be whole numbers")
        # A larger number would arrive as another one.
        if int(value.min()) < limits.min or int(value.max()) > limits.max:
            raise ValueError(f"{name}={value} does not fit into {dtype.__name__}, from {limits.min} to {limits.max}")
    with np.errstate(over="ignore"):
        cast = value.astype(dtype)
    if cast.dtype.kind == "f" and np.any(np.isinf(cast) & np.isfinite(value)):
        raise ValueError(f"{name} holds numbers that do not fit into {dtype.__name__}")
    return tf.make_tensor_proto(cast, dtype)
