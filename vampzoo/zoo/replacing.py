"""Putting a preset in the place of an earlier one: nothing that is not ours is replaced, and there is always a whole one."""

import contextlib
import ctypes
import errno
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import threading

from vampzoo import files
from vampzoo.files import CHECKSUMS, RENEWED
from vampzoo.zoo import preset_folder
from vampzoo.zoo.errors import ZooError

LOCK_SECONDS = 600.0
MAX_VERSION = 2**63 - 1  # TensorFlow Serving's
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def replaced(zoo_dir, name):
    """A context with a new folder that at its end takes the place of the preset of that name; if it fails, nothing does.

    Yields (folder, version, theirs). `folder` holds what stays of the earlier preset: its SavedModels, and files that
    users put there, whose relative names are `theirs`. `version` is the number of the next SavedModel.

    Another export of the same name is waited for. Ctrl-C and SIGTERM end the process, and leave the preset as it was.

    Args:
        zoo_dir: the folder with the presets.
        name: of the preset.

    Raises:
        ZooError: if something stands there that no export wrote, or somebody changed; or if it cannot be written.
    """
    preset = pathlib.Path(zoo_dir, name)
    check_zoo(zoo_dir)
    if preset.is_symlink() and not preset.exists():
        raise ZooError(f"{preset} is a symbolic link to {os.readlink(preset)}, which does not exist")
    preset = preset.resolve()  # a link stays, and what it points to is replaced
    check_target(preset)
    try:
        lock = files.Lock(
            preset.with_name(f".{preset.name}.lock"),
            LOCK_SECONDS,
            lambda: print(f"waiting for another export of {name}", file=sys.stderr, flush=True),
        )
    except BlockingIOError:
        raise ZooError(f"another export of {name} has not ended within {LOCK_SECONDS:.0f} seconds") from None
    except OSError as error:
        raise ZooError(f"{preset} cannot be written: {error.strerror}") from error
    temporary = None
    try:
        listed = check(preset)
        _clean_up(preset)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f"{files.TEMPORARY_PREFIX}{preset.name}.", dir=preset.parent))
        with _ended_by_signals(temporary):
            theirs = _carry_over(preset, temporary, listed)
            if (latest := _highest_number(preset)) >= MAX_VERSION:
                raise ZooError(f"{preset / str(latest)}: there is no version number after this one")
            yield temporary, latest + 1, theirs
            temporary.chmod(0o755)  # mkdtemp's folders are for their owner alone
            _exchange(preset, temporary)
    except OSError as error:
        reason = error.strerror or error
        raise ZooError(f"{preset} cannot be written ({reason}); what was there is as it was") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        lock.release(remove=True)


def _highest_number(preset):
    """The highest number that any folder in a preset's has, a SavedModel or not: nothing is written into either."""
    names = (path.name for path in preset.glob("*/"))
    return max((int(name) for name in names if name.isascii() and name.isdigit()), default=0)


def check_zoo(zoo_dir):
    """Raises ZooError if a folder for presets is or lies in a preset."""
    if folder := files.sealed_folder(zoo_dir):
        raise ZooError(f"{zoo_dir} is or lies in {folder}, which has {CHECKSUMS}: nothing is written into a preset")


def check_target(preset):
    """Raises ZooError if in the place of a preset stands something else than a folder with SHA256SUMS, or nothing."""
    if preset.exists() and not (preset / CHECKSUMS).is_file():
        what = f"folder without {CHECKSUMS}, so no preset" if preset.is_dir() else "file"
        raise ZooError(f"{preset} is a {what}: an export would replace it. Choose another --name or --zoo_dir")


def check(preset):
    """{file: SHA-256} of the preset in a folder, {} if there is no such folder yet. Needs the lock: an export changes it.

    Raises:
        ZooError: if something else stands there, or the preset is not as it was exported.
    """
    check_target(preset)
    if not preset.exists():
        return {}
    listed = preset_folder.verify(preset)
    for name in RENEWED:
        if name != CHECKSUMS and name not in listed and (preset / name).exists():
            raise ZooError(
                f"{preset / name} is not listed in {CHECKSUMS}, and an export would replace it: move it away"
            )
    return listed


def _carry_over(preset, new, listed):
    """Copies what stays; returns the names, relative to the folder, of what no export wrote."""
    if not preset.exists():
        return ()
    shutil.copytree(
        preset,
        new,
        symlinks=True,
        dirs_exist_ok=True,
        ignore=lambda folder, names: RENEWED if pathlib.Path(folder) == preset else (),
    )
    copied = [path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_symlink() or not path.is_dir()]
    for name in copied:
        if name in listed and files.sha256(new / name) != listed[name]:
            raise ZooError(f"{preset / name} was changed while it was copied")
    return tuple(name for name in copied if name not in listed)


def _exchange(preset, new):
    """Puts `new` in the place of the folder `preset`, whose earlier content, if any, then is in `new`.

    In one step where the file system can; else, as on NFS, there is no preset for a moment, and if the process is killed
    in it the next export brings the earlier one back.
    """
    if not preset.exists():
        os.rename(new, preset)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(preset), _RENAME_EXCHANGE)
    if hasattr(libc, "renameat2") and libc.renameat2(*arguments) == 0:
        return
    if ctypes.get_errno() not in (0, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(preset))
    old = new.with_name(f"{new.name}.old")
    os.rename(preset, old)
    try:
        os.rename(new, preset)
    except OSError:
        os.rename(old, preset)
        raise
    shutil.rmtree(old)


def _clean_up(preset):
    """Removes what an export of this preset left when it was killed; brings back a preset that it had set aside."""
    pattern = re.compile(re.escape(f"{files.TEMPORARY_PREFIX}{preset.name}.") + r"[a-z0-9_]{8}(\.old)?")
    for left in sorted(preset.parent.iterdir()):
        if (match := pattern.fullmatch(left.name)) and left.is_dir() and not left.is_symlink():
            if match[1] and not preset.exists():
                os.rename(left, preset)
            else:
                shutil.rmtree(left)


@contextlib.contextmanager
def _ended_by_signals(temporary):
    """A context in which Ctrl-C and SIGTERM end the process at once, without the folder that it was writing.

    Not by an exception, which TensorFlow would turn into another one where it is tracing a function.
    """

    def leave(number, frame):
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.write(2, b"interrupted; the preset is as it was\n")
        os._exit(128 + number)

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
