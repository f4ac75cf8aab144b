"""Whether a download can succeed at all, and what to say when it cannot."""

import socket
import urllib.parse
import urllib.request

from vampzoo.datasets.errors import DataError

TIMEOUT_SECONDS = 5


def reachable(url):
    """Whether the host of a URL, or the proxy that stands before it, accepts a connection within seconds.

    TFDS itself retries for more than three minutes before it says that there is no network.
    """
    url = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and not urllib.request.proxy_bypass(url.hostname):
        url = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    try:
        address = (url.hostname, url.port or {"http": 80, "ftp": 21}.get(url.scheme, 443))
        socket.create_connection(address, TIMEOUT_SECONDS).close()
    except OSError:
        return False
    return True


def no_download(dataset, files, folder, reason):
    """The error for source files that are neither here nor can be downloaded.

    Args:
      dataset: its name.
      files: dict from address to file name.
      folder: where a file is looked for.
      reason: why the download does not work.
    """
    lines = "\n".join(f"  {url}  as  {filename}" for url, filename in files.items())
    return DataError(
        f"{dataset}: cannot download ({reason}). Fetch by other means\n{lines}\nand put it into the folder {folder} "
        "(or any other, given as manual_dir)."
    )
