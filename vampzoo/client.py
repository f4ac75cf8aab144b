"""Asks a served model over gRPC.

    ask = vampzoo.client.Client("localhost:8500", "hvae_vampprior_caltech101")
    images = ask("sample", n=16, seed=[1, 0])["images"]  # [16, 28, 28, 1]

Over REST no client is needed: a request is one call of `requests.post`, see docs/serving.md.
"""

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_service_pb2_grpc

MAX_MESSAGE_BYTES = 64 * 2**20  # gRPC's own limit of 4 MiB is fewer than 1,400 images


class Client:
    """Calls the signatures of `vampzoo.zoo.serving` on TensorFlow Serving or any other PredictionService.

    Args:
        address: "host:port" of the gRPC endpoint.
        name: of the model on the server.
        timeout: seconds to wait for an answer.
        version: of the model; None: the server's latest.
    """

    def __init__(self, address, name, timeout=60.0, version=None):
        sizes = [(f"grpc.max_{way}_message_length", MAX_MESSAGE_BYTES) for way in ("send", "receive")]
        self._channel = grpc.insecure_channel(address, options=sizes)
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._name = name
        self._timeout = timeout
        self._version = version

    def __call__(self, signature, **inputs):
        """Returns {output: NumPy array} of a signature for its inputs, given as arrays or numbers.

        Python numbers become int32 or float32.

        Raises:
            ValueError: for a number that int32 or float32 cannot hold.
            grpc.RpcError: what the server answered: INVALID_ARGUMENT for inputs that the model refuses, NOT_FOUND for a
                model that it does not serve; or UNAVAILABLE, DEADLINE_EXCEEDED.
        """
        request = predict_pb2.PredictRequest(
            model_spec=model_pb2.ModelSpec(name=self._name, signature_name=signature),
            inputs={key: _to_proto(key, value) for key, value in inputs.items()},
        )
        if self._version is not None:
            request.model_spec.version.value = self._version
        response = self._service.Predict(request, timeout=self._timeout)
        return {key: tf.make_ndarray(proto) for key, proto in response.outputs.items()}

    def close(self):
        """Closes the connection."""
        self._channel.close()


def _to_proto(name, value):
    value = np.asarray(value)
    dtype = np.int32 if value.dtype.kind in "iub" else np.float32
    if value.dtype.kind in "iu" and value.size:  # a larger number would arrive as another one
        limits = np.iinfo(np.int32)
        if int(value.min()) < limits.min or int(value.max()) > limits.max:
            raise ValueError(f"{name}={value} does not fit into int32, from {limits.min} to {limits.max}")
    elif value.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, not {value.dtype}")
    with np.errstate(over="ignore"):
        cast = value.astype(dtype)
    if np.any(np.isinf(cast) & np.isfinite(value)):
        raise ValueError(f"{name} holds numbers that do not fit into float32")
    return tf.make_tensor_proto(cast, dtype)
