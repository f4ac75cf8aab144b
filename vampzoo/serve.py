"""Serves a preset over gRPC and REST, for development: as TensorFlow Serving would, without docker.

    python -m vampzoo.serve --name=hvae_vampprior_caltech101

Answers until it is stopped (Ctrl-C). It runs the preset's graph, which, unlike its weights, can do what a program of yours
can: serve presets of people whom you trust. For production run TensorFlow Serving on the same folder.
"""

import contextlib
import signal
import sys
import threading

from absl import flags

from vampzoo import program
from vampzoo.errors import InvalidValue

FLAGS = flags.FLAGS

_GROUP = "serving"
flags.DEFINE_string("name", None, "preset to serve: a name, a folder or hf://OWNER/NAME", module_name=_GROUP)
program.define_path("zoo_dir", None, "where preset names are looked for: a folder or hf://OWNER", module_name=_GROUP)
flags.DEFINE_boolean(
    "trust", False, "run the graph of a preset from the hub, which can reach your files", module_name=_GROUP
)
flags.DEFINE_string("host", "127.0.0.1", "interface to listen at (0.0.0.0: all of them)", module_name=_GROUP)
flags.DEFINE_integer("port", 8500, "of gRPC (0: a free one)", lower_bound=0, upper_bound=65535, module_name=_GROUP)
flags.DEFINE_integer("rest_port", 8501, "of REST (0: a free one)", lower_bound=0, upper_bound=65535, module_name=_GROUP)


def main(argv):
    if not FLAGS.name:
        raise InvalidValue("--name is missing: the name of a preset")

    from vampzoo import zoo
    from vampzoo.zoo import prediction_server

    if not FLAGS.trust and (FLAGS.name.startswith("hf://") or zoo.zoo_owner(FLAGS.zoo_dir)):
        raise InvalidValue(
            "--trust is missing: to serve a preset is to run its graph, which whoever made it can have read and write your "
            "files (vampzoo.load reads weights alone). If you trust the owner of this one, give --trust"
        )
    folder, name = zoo.find(FLAGS.name, FLAGS.zoo_dir)
    if not (version := zoo.latest_version(folder)):
        raise InvalidValue(f"{folder} holds no SavedModel: it is not a preset, which vampzoo.export makes of a run")
    zoo.verify(folder)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stop.set())
    served = prediction_server.ServedModel(folder / str(version), name)
    with contextlib.ExitStack() as stack:
        grpc_address = stack.enter_context(prediction_server.serve_grpc(served, FLAGS.host, FLAGS.port))
        rest_address = stack.enter_context(prediction_server.serve_rest(served, FLAGS.host, FLAGS.rest_port))
        print(f"{name}, version {version}: signatures {', '.join(sorted(served.model.signatures))}")
        print(f"gRPC: vampzoo.client.Client({grpc_address!r}, {name!r})")
        print(f"REST: http://{rest_address}/v1/models/{name}:predict", flush=True)
        stop.wait()
    print("stopped", file=sys.stderr)


if __name__ == "__main__":
    program.run(main, __doc__)
