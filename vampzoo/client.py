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
            grpc.RpcError: what the server answered: INVALID_ARGUMENT for inputs that the model refuses, NOT_FOUND for a
                model that it does not serve; or UNAVAILABLE, DEADLINE_EXCEEDED.
        """
        request = predict_pb2.PredictRequest(
            model_spec=model_pb2.ModelSpec(name=self._name, signature_name=signature),
            inputs={key: _to_proto(value) for key, value in inputs.items()},
        )
        if self._version is not None:
            request.model_spec.version.value = self._version
        response = self._service.Predict(request, timeout=self._timeout)
        return {key: tf.make_ndarray(proto) for key, proto in response.outputs.items()}

    def close(self):
        """Closes the connection."""
        self._channel.close()


def _to_proto(value):
    value = np.asarray(value)
    return tf.make_tensor_proto(value, np.int32 if value.dtype.kind in "iub" else np.float32)
