"""What the command-line programs share: grouped help, and errors as one message with exit code 1."""

import os
import sys
import textwrap

from absl import app, flags, logging


def run(main, description):
    """Parses the flags, runs `main(arguments)` and exits with its result.

    Flags are shown by group: the `module_name` they were defined with. `--help` answers before TensorFlow is imported.

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
            return flags.FLAGS(argv)
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

    logging.set_verbosity(logging.WARNING)  # TFDS and TensorFlow tell every file that they touch
    app.run(guarded, flags_parser=parse)


# Errors whose message says all that a user needs; anything else is a fault of ours and keeps its traceback.
KNOWN_ERRORS = (ValueError, RuntimeError, OSError)


def _fail(error):
    if os.environ.get("VAMPZOO_TRACEBACK") and isinstance(error, Exception):
        raise error
    print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(1)


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
    lines.append("--flagfile=FILE reads flags from a file, one --name=value a line; later values win.")
    return "\n".join(lines) + "\n"
