"""A gRPC PredictionService around a SavedModel, for tests: what TensorFlow Serving does with a request, no more.

It runs the model with TensorFlow alone: neither vampzoo nor Keras is imported.
"""

import concurrent.futures
import contextlib

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

OPTIONS = [("grpc.max_send_message_length", 64 * 2**20), ("grpc.max_receive_message_length", 64 * 2**20)]


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Serves the signatures of one SavedModel."""

    def __init__(self, export_dir, name):
        self.name = name
        self.model = tf.saved_model.load(str(export_dir))

    def Predict(self, request, context):
        if request.model_spec.name != self.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model_spec.name!r}; there is {self.name!r}")
        signature_name = request.model_spec.signature_name or "serving_default"
        if signature_name not in self.model.signatures:
            names = ", ".join(sorted(self.model.signatures))
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no signature {signature_name!r}; there are {names}")
        signature = self.model.signatures[signature_name]
        specs = signature.structured_input_signature[1]
        if set(request.inputs) != set(specs):
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{signature_name} takes {sorted(specs)}, got {sorted(request.inputs)}",
            )
        try:
            inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
            outputs = signature(**inputs)
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:  # of a wrong rank, shape or type
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return predict_pb2.PredictResponse(
            model_spec=request.model_spec,
            outputs={key: tf.make_tensor_proto(value.numpy()) for key, value in outputs.items()},
        )


@contextlib.contextmanager
def serve(export_dir, name, max_workers=2):
    """Yields the address of a server on a free port of the loopback interface."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers), options=OPTIONS)
    service = PredictionService(export_dir, name)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
