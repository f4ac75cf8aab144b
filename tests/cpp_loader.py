"""Runs a SavedModel in TensorFlow's C++ loader, the one inside TensorFlow Serving, in a process without Python's TensorFlow.

`run` is for tests. It starts this very file as a program, which reaches the loader through TensorFlow's C API: the functions
of tensorflow/c/c_api.h in the shared libraries of the wheel.
"""

import ctypes
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

# Values of the DataType enumeration in tensorflow/core/framework/types.proto.
DTYPES = {1: np.float32, 3: np.int32, 9: np.int64}


def run(export_dir, requests):
    """Answers requests in turn, in one session.

    Args:
        export_dir: folder with saved_model.pb.
        requests: [(signature, {input: array}), ...].

    Returns:
        For each request {output: array}, or the error message as a string.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel.FromString((pathlib.Path(export_dir) / "saved_model.pb").read_bytes())
    signatures = {
        name: {
            side: {key: [info.name, info.dtype] for key, info in getattr(definition, side).items()}
            for side in ("inputs", "outputs")
        }
        for name, definition in saved_model.meta_graphs[0].signature_def.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "requests.json").write_text(json.dumps([signatures[signature] for signature, _ in requests]))
        feeds = {f"{i} {key}": value for i, (_, inputs) in enumerate(requests) for key, value in inputs.items()}
        np.savez(folder / "feeds.npz", **feeds)
        done = subprocess.run(
            [sys.executable, __file__, str(export_dir), str(folder)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"the C++ loader failed: {done.stderr[-3000:]}")
        errors = json.loads((folder / "errors.json").read_text())
        with np.load(folder / "outputs.npz") as outputs:
            return [
                error or {key.split(" ", 1)[1]: outputs[key] for key in outputs.files if key.startswith(f"{i} ")}
                for i, error in enumerate(errors)
            ]


class _Output(ctypes.Structure):
    _fields_ = [("oper", ctypes.c_void_p), ("index", ctypes.c_int)]


class LoaderError(RuntimeError):
    """A status other than OK."""


class Session:
    """A SavedModel, loaded with the tag that TensorFlow Serving uses."""

    def __init__(self, export_dir):
        package = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent  # does not import it
        for library in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"):
            self._library = ctypes.CDLL(str(package / library), mode=ctypes.RTLD_GLOBAL)
        self._status = self._pointer("TF_NewStatus")
        self._graph = self._pointer("TF_NewGraph")
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = self._pointer(
            "TF_LoadSessionFromSavedModel",
            *(self._pointer("TF_NewSessionOptions"), None, str(export_dir).encode()),
            *(tags, ctypes.c_int(1), self._graph, None, self._status),
        )
        self._check()

    def _call(self, name, result, *arguments):
        function = getattr(self._library, name)
        function.restype = result
        return function(*arguments)

    def _pointer(self, name, *arguments):
        return ctypes.c_void_p(self._call(name, ctypes.c_void_p, *arguments))

    def _check(self):
        if self._call("TF_GetCode", ctypes.c_int, self._status):
            raise LoaderError(self._call("TF_Message", ctypes.c_char_p, self._status).decode())

    def _endpoints(self, tensors):
        endpoints = (_Output * max(1, len(tensors)))()
        for endpoint, (name, _) in zip(endpoints, tensors, strict=False):
            operation, index = name.split(":")
            endpoint.oper = self._call(
                "TF_GraphOperationByName", ctypes.c_void_p, self._graph, ctypes.c_char_p(operation.encode())
            )
            endpoint.index = int(index)
        return endpoints

    def _to_tensor(self, array, dtype):
        array = np.array(array, DTYPES[dtype], order="C")
        dims = (ctypes.c_int64 * max(1, array.ndim))(*array.shape)
        size = ctypes.c_size_t(array.nbytes)
        tensor = self._pointer("TF_AllocateTensor", ctypes.c_int(dtype), dims, ctypes.c_int(array.ndim), size)
        ctypes.memmove(self._call("TF_TensorData", ctypes.c_void_p, tensor), array.ctypes.data, array.nbytes)
        return tensor

    def _to_array(self, tensor):
        rank = self._call("TF_NumDims", ctypes.c_int, tensor)
        shape = [self._call("TF_Dim", ctypes.c_int64, tensor, ctypes.c_int(i)) for i in range(rank)]
        size = self._call("TF_TensorByteSize", ctypes.c_size_t, tensor)
        raw = ctypes.string_at(self._call("TF_TensorData", ctypes.c_void_p, tensor), size)
        return np.frombuffer(raw, DTYPES[self._call("TF_TensorType", ctypes.c_int, tensor)]).reshape(shape)

    def run(self, signature, feeds):
        """{output: array} of a signature {"inputs": {key: [tensor, dtype]}, "outputs": ...}."""
        inputs = [signature["inputs"][key] for key in feeds]
        outputs = list(signature["outputs"].values())
        values = (ctypes.c_void_p * max(1, len(inputs)))()
        for i, (array, (_, dtype)) in enumerate(zip(feeds.values(), inputs, strict=True)):
            values[i] = self._to_tensor(array, dtype).value
        results = (ctypes.c_void_p * len(outputs))()
        self._call(
            "TF_SessionRun",
            None,
            *(self._session, None),
            *(self._endpoints(inputs), values, ctypes.c_int(len(inputs))),
            *(self._endpoints(outputs), results, ctypes.c_int(len(outputs))),
            *(None, ctypes.c_int(0), None, self._status),
        )
        self._check()
        return {
            key: self._to_array(ctypes.c_void_p(tensor))
            for key, tensor in zip(signature["outputs"], results, strict=True)
        }


def _main(export_dir, folder):
    folder = pathlib.Path(folder)
    signatures = json.loads((folder / "requests.json").read_text())
    session = Session(export_dir)
    errors, results = [], {}
    with np.load(folder / "feeds.npz") as feeds:
        for i, signature in enumerate(signatures):
            mine = {key: feeds[f"{i} {key}"] for key in signature["inputs"]}
            try:
                results |= {f"{i} {key}": array for key, array in session.run(signature, mine).items()}
                errors.append(None)
            except LoaderError as error:
                errors.append(str(error))
    assert "tensorflow" not in sys.modules and "keras" not in sys.modules
    np.savez(folder / "outputs.npz", **results)
    (folder / "errors.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    _main(*sys.argv[1:])
