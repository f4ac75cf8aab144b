"""Presets on Hugging Face's hub: addresses, downloads into its cache, uploads. Needs the extra `hub`.

An address is hf://OWNER/NAME, with a branch, tag or commit after an @ if need be; hf://OWNER is all presets of somebody.
The hub's own library does the work, so its environment variables hold: HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE.
"""

import contextlib
import dataclasses
import glob
import os
import pathlib
import re

from vampzoo.files import CHECKSUMS, CONFIG, RENEWED
from vampzoo.zoo.errors import ZooError

SCHEME = "hf://"
TAG = "vampzoo"  # of every card
_NAME = r"[A-Za-z0-9][\w.-]{0,95}"
_ADDRESS = re.compile(rf"hf://(?P<owner>{_NAME})(/(?P<name>{_NAME})(@(?P<revision>[\w./-]+))?)?/?", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a preset is, or, without a name, the presets of an owner.

    Attributes:
        owner: user or organisation.
        name: of the preset.
        revision: a branch, a tag or the hash of a commit; None: the main branch as it is now.
    """

    owner: str
    name: str | None = None
    revision: str | None = None

    @property
    def repository(self):
        """OWNER/NAME."""
        return f"{self.owner}/{self.name}"

    def __str__(self):
        name = f"/{self.name}" if self.name else ""
        return f"{SCHEME}{self.owner}{name}" + (f"@{self.revision}" if self.revision else "")


def is_address(text):
    """Whether a name, path or address is an address."""
    return isinstance(text, str) and text.startswith(SCHEME)


def parse(text):
    """The `Address` that a text is.

    Raises:
        ZooError: if it is none.
    """
    if not (match := _ADDRESS.fullmatch(text)):
        raise ZooError(
            f"{text!r} is no address on the hub: those are hf://OWNER/NAME, hf://OWNER/NAME@REVISION, hf://OWNER"
        )
    return Address(**match.groupdict())


def fetch(address):
    """Downloads a preset, unless the cache has it: the files that its SHA256SUMS lists, and no others.

    Args:
        address: an `Address` with a name.

    Returns:
        The folder in the cache, a `pathlib.Path`, named after the commit. Nothing has been verified yet.

    Raises:
        ZooError: if it does not exist, is no preset, or is not in the cache and the hub cannot be reached.
    """
    if address.name is None:
        raise ZooError(f"{address} is an owner, not a preset: {address}/NAME")
    with _hub(address) as hub:
        checksums = pathlib.Path(hub.hf_hub_download(address.repository, CHECKSUMS, revision=address.revision))
        commit = (
            checksums.parent.name
        )  # everything else is of the same commit, whatever happens to the branch meanwhile
        lines = checksums.read_text(errors="replace").splitlines()
        wanted = [CHECKSUMS, *(glob.escape(line.partition("  ")[2]) for line in lines)]
        return pathlib.Path(hub.snapshot_download(address.repository, revision=commit, allow_patterns=wanted))


def names(owner):
    """The names of an owner's presets on the hub, sorted.

    Raises:
        ZooError: if the hub cannot be reached.
    """
    with _hub(Address(owner)) as hub:
        found = [model.id for model in hub.HfApi().list_models(author=owner, filter=TAG)]
    return sorted(repository.partition("/")[2] for repository in found)


def fetch_description(address):
    """Downloads what describes a preset, not its weights: the folder with config.json and, if it has one, metrics.json.

    Raises:
        ZooError: as `fetch`.
    """
    with _hub(address) as hub:
        folder = pathlib.Path(hub.hf_hub_download(address.repository, CONFIG, revision=address.revision)).parent
        with contextlib.suppress(hub.errors.EntryNotFoundError):
            hub.hf_hub_download(address.repository, "metrics.json", revision=folder.name)
    return folder


def upload(folder, names, address, message, private=None):
    """Uploads files of a preset folder as one commit, and creates the repository if there is none.

    Args:
        folder: the preset folder.
        names: of the files, relative to it; whatever else is there may be nobody's business.
        address: an `Address` with a name and without a revision.
        message: of the commit.
        private: whether a repository that is created is private; None: as the owner has set it.

    Returns:
        The `Address` of the commit.

    Raises:
        ZooError: if nobody is logged in, the owner is somebody else, or the hub cannot be reached.
    """
    with _hub(address) as hub:
        api = hub.HfApi()
        api.create_repo(address.repository, exist_ok=True, private=private)
        commit = api.upload_folder(
            repo_id=address.repository,
            folder_path=folder,
            commit_message=message,
            allow_patterns=[glob.escape(name) for name in names],
            # What an earlier preset of this name had more: versions of the SavedModel, a second copy of the weights, how
            # another model was trained.
            delete_patterns=["[0-9]*/*", *RENEWED],
        )
    return dataclasses.replace(address, revision=commit.oid)


@contextlib.contextmanager
def _hub(address):
    """Yields the module huggingface_hub; its errors leave the block as `ZooError`s that say what can be done."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError:
        raise ZooError(
            f"{address} is on Hugging Face's hub, which needs a further package: pip install huggingface_hub"
        ) from None
    try:
        yield hub
    except errors.RevisionNotFoundError as error:
        raise ZooError(f"{address} has no revision {address.revision!r}") from error
    except (errors.GatedRepoError, errors.RepositoryNotFoundError) as error:
        raise ZooError(
            f"{address} does not exist, or is not open to you: private and gated ones need `hf auth login` or HF_TOKEN"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _unreachable(address, " and is not in the cache") from error
    except errors.EntryNotFoundError as error:
        raise ZooError(
            f"{address} is no preset: it lacks {CHECKSUMS} or {CONFIG}, or a file that those name"
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        hint = ": `hf auth login` or HF_TOKEN says who you are" if status in (401, 403) else ""
        raise ZooError(f"the hub refused {address}{hint} ({error})") from error
    except errors.HTTPError as error:  # no connection
        raise _unreachable(address, f" ({error})") from error
    except errors.HFValidationError as error:
        raise ZooError(f"{address} is no address on the hub: {error}") from error


def _unreachable(address, why):
    endpoint = os.environ.get("HF_ENDPOINT", "the hub")
    return ZooError(
        f"{address} cannot be reached{why}: {endpoint} is not reachable, or HF_HUB_OFFLINE is set. A preset that was "
        "fetched once loads from the cache without a network"
    )
