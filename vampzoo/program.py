"""What the command-line programs share: grouped help, flagfiles by name, and errors as one message with exit code 1."""

import contextlib
import os
import pathlib
import signal
import sys
import textwrap
import threading
import warnings

from absl import app, flags, logging

from vampzoo import files
from vampzoo.errors import Hint, VampzooError


def run(main, description):
    """Parses the flags, runs `main(arguments)` and exits with its result.

    Flags are shown by group: the `module_name` they were defined with. `--help` answers before TensorFlow is imported.
    A flagfile is looked for as `find_flagfile` says.

    Args:
        main: called with the positional arguments; may return an exit code.
        description: what the program does, shown by `--help`.
    """

    def parse(argv):
        if any(argument in ("--help", "-h", "-help", "--helpfull", "--helpshort") for argument in argv[1:]):
            print(description.strip(), "\n")
            print(_help(), end="")
            sys.exit(0)
        try:
            return flags.FLAGS([argv[0], *expand_flagfiles(argv[1:])])
        except flags.Error as error:
            _fail(f"{error}. `--help` lists the flags")

    def guarded(argv):
        if argv[1:]:
            _fail(f"unexpected arguments {argv[1:]}: flags are written --name=value")
        try:
            return main(argv)
        except KNOWN_ERRORS as error:
            _fail(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
            sys.exit(130)

    warnings.formatwarning = _format_warning
    logging.set_verbosity(logging.WARNING)  # TFDS and TensorFlow tell every file that they touch
    app.run(guarded, flags_parser=parse)


# === Interruptions ===


def interruptible(compute, message):
    """The result of `compute()`; meanwhile Ctrl-C and SIGTERM end the process at once, with exit code 130 or 0.

    It is computed in a thread, since Python handles signals only between two steps of the main one, and a step in
    TensorFlow may take hours. So `compute` must keep what it wants to keep itself, as before a kill.

    Args:
        compute: a function without arguments.
        message: what to say when the process is ended.
    """
    results, errors = [], []

    def run():
        try:
            results.append(compute())
        except BaseException as error:
            errors.append(error)

    def leave(number, frame):
        with contextlib.suppress(OSError):  # past Python's stderr, which a handler may have interrupted
            os.write(2, f"stopped by {signal.Signals(number).name}; {message}\n".encode())
        os._exit(0 if number == signal.SIGTERM else 128 + number)

    handlers = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.2)  # handlers run in between
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if errors:
        raise errors[0]
    return results[0]


# === Paths ===


class _PathParser(flags.ArgumentParser):
    """A path: a leading ~ is the home folder, also where no shell has put it in; and it is one line of text."""

    syntactic_help = "a path"

    def parse(self, argument):
        if argument != "".join(argument.splitlines()) or "\0" in argument:
            raise ValueError("a path may not hold line breaks")  # a line of a flagfile ends there
        try:
            return os.fspath(pathlib.Path(argument).expanduser()) if argument.startswith("~") else argument
        except RuntimeError as error:
            raise ValueError(f"{error}") from error


def define_path(name, default, help, module_name):
    """Defines a flag that holds the path of a file or folder.

    Args:
        name, default, help, module_name: as for `absl.flags.DEFINE_string`.
    """
    serializer = flags.ArgumentSerializer()
    flags.DEFINE(_PathParser(), name, default, help, serializer=serializer, module_name=module_name)


# === Flagfiles ===


def find_flagfile(name, including=None):
    """The path of a flagfile: as given, from the working directory, or else one that the package ships.

    Args:
        name: a path, or the name of a file in configs/ ("caltech.flags", "configs/caltech.flags").
        including: the path of the flagfile that names it. A file that the package ships means its neighbours: a folder
            configs/ where somebody works is not to change it.

    Raises:
        flags.Error: if there is no such file; the message lists those that the package ships.
    """
    configs = files.shipped(files.CONFIGS)
    given = pathlib.Path(name).expanduser()
    own = configs / given.name if configs and given.parent.as_posix() in (".", files.CONFIGS) else None
    places = [given, own]
    if including is not None and including.parent == configs:
        places.reverse()
    for path in places:
        if path is not None and path.is_file():
            return path
    known = ", ".join(sorted(path.name for path in configs.glob("*.flags"))) if configs else "none"
    raise flags.CantOpenFlagFileError(f"--flagfile={name} is no file here; those of the package are: {known}")


def expand_flagfiles(arguments, including=()):
    """Arguments with the lines of flagfiles in the place of --flagfile=FILE, in which there may be further ones.

    Args:
        arguments: a list of strings.
        including: paths of the flagfiles that they come from, outermost first.

    Raises:
        flags.Error: for a file that does not exist, is no text or includes itself.
    """
    expanded, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if argument == "--":
            return [*expanded, argument, *rest]
        if name not in ("--flagfile", "-flagfile"):
            expanded.append(argument)
            continue
        if not equals:
            if not rest:
                raise flags.IllegalFlagValueError("--flagfile needs a file: --flagfile=FILE")
            value = rest.pop(0)
        path = find_flagfile(value, including[-1] if including else None)
        if path.resolve() in [other.resolve() for other in including]:
            raise flags.IllegalFlagValueError(f"the flagfile {path} includes itself")
        try:
            lines = [line.strip() for line in path.read_text().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise flags.CantOpenFlagFileError(f"--flagfile={value} cannot be read: {error}") from error
        given = [line for line in lines if line and not line.startswith(("#", "//"))]
        expanded += expand_flagfiles(given, (*including, path))
    return expanded


# === Errors and help ===

# Errors whose message says all that a user needs; anything else is a fault of ours and keeps its traceback.
KNOWN_ERRORS = (VampzooError, OSError)


def _fail(error):
    if os.environ.get("VAMPZOO_TRACEBACK") and isinstance(error, Exception):
        raise error
    print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(1)


_format_any_warning = warnings.formatwarning


def _format_warning(message, category, *where):
    """A hint of ours is one line, without the place in our code that gave it."""
    return f"hint: {message}\n" if issubclass(category, Hint) else _format_any_warning(message, category, *where)


def _help():
    lines = []
    for group, members in flags.FLAGS.flags_by_module_dict().items():
        if group.startswith(("absl", "tensorflow", "__main__")) or not members:
            continue
        lines.append(f"{group}:")
        for flag in members:
            choices = f" ({'|'.join(flag.parser.enum_values)})" if hasattr(flag.parser, "enum_values") else ""
            name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
            default = "" if flag.default is None else f" [default: {flag.default}]"
            text = f"{flag.help}{choices}{default}"
            lines += textwrap.wrap(text, 110, initial_indent=f"  {name}: ", subsequent_indent="      ")
        lines.append("")
    lines += textwrap.wrap(
        "--flagfile=FILE reads flags from a file, one --name=value a line; later values win. FILE is a path, or the name of "
        "one that comes with vampzoo, such as caltech.flags.",
        110,
    )
    return "\n".join(lines) + "\n"
