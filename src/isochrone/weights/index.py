"""A Python package index as a shelf of files: find one wheel and download it, resuming where it stopped.

Speaks the simple repository API (PEP 503 and 691) and pip's pages and folders of links.  What comes back is
not trusted: the caller checks a pinned hash.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from ..errors import Unreachable
from .index_settings import IndexSettings

PAGE_BYTES_MAX = 1 << 24
CHUNK_BYTES = 1 << 18
ATTEMPTS = 4
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"

Report = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes there will be."""


def find_links(settings: IndexSettings, package: str, filename: str) -> tuple[list[str], list[str]]:
    """Addresses of a file, nearest first, and what went wrong on the way to others."""
    pages = [*settings.find_links, *(f"{index.rstrip('/')}/{package}/" for index in settings.indexes)]
    found, problems = [], []
    for page in pages:
        try:
            links = [link for link in _links(page, settings) if _filename(link) == filename]
            found += links
            if not links:
                problems.append(f"{_shown(page)} does not have {filename}")
        except (OSError, ValueError, http.client.HTTPException, RecursionError) as error:
            problems.append(f"{_shown(page)}: {error}")
    return found, problems


def download(url: str, part: Path, num_bytes_max: int, settings: IndexSettings, report: Report) -> None:
    """Bring a file to `part`, going on with what is there.  Raises Unreachable."""
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            if _download_rest(url, part, num_bytes_max, settings, report):
                return
            problem = "the connection ended early"
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = str(error)
            if not isinstance(error, urllib.error.HTTPError) or error.code >= 500:
                continue
            if error.code != 416:
                break
            # Nothing lies behind what is here: it is the whole file, or more than that and of no use.
            if error.headers.get("Content-Range") == f"bytes */{part.stat().st_size}":
                return
            part.unlink()
    raise Unreachable(f"{_shown(url)} could not be downloaded: {problem}.", fix="Check the network and pull again.")


def _download_rest(url: str, part: Path, num_bytes_max: int, settings: IndexSettings, report: Report) -> bool:
    """One attempt.  Returns whether the file is whole."""
    done = part.stat().st_size if part.exists() else 0
    with _open(url, settings, {"Range": f"bytes={done}-"} if done else {}) as response:
        resumed = getattr(response, "status", None) == 206
        done = done if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length is not None else num_bytes_max
        with open(part, "ab" if resumed else "wb") as out:
            while chunk := response.read(CHUNK_BYTES):
                done += len(chunk)
                if done > num_bytes_max:
                    raise ValueError(f"it is longer than the {num_bytes_max} bytes expected")
                out.write(chunk)
                report(done, total)
    return length is None or done == total


def _open(url: str, settings: IndexSettings, headers: dict[str, str]) -> Any:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "file"):
        raise ValueError(f"addresses of kind {parts.scheme!r} are not opened")
    request = urllib.request.Request(url, headers={"User-Agent": "isochrone", "Accept-Encoding": "identity", **headers})
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request = urllib.request.Request(_bare(url), headers=dict(request.header_items()))
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(secret).decode()}")
    context = ssl.create_default_context(cafile=settings.cert) if parts.scheme == "https" else None
    return urllib.request.urlopen(request, timeout=settings.timeout_s, context=context)


def _links(page: str, settings: IndexSettings) -> Iterator[str]:
    folder = _folder(page)
    if folder is not None and (folder / "index.html").is_file():
        folder = folder / "index.html"
    if folder is not None and folder.is_dir():
        yield from (file.absolute().as_uri() for file in sorted(folder.iterdir()))
    elif folder is not None:
        with open(folder, "rb") as stream:
            yield from _html_links(folder.absolute().as_uri(), _text(stream))
    else:
        yield from _remote_links(page, settings)


def _folder(page: str) -> Path | None:
    """The local path a page stands for, or None for a remote one."""
    parts = urlsplit(page)
    if parts.scheme in ("http", "https"):
        return None
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(page).expanduser()


def _remote_links(page: str, settings: IndexSettings) -> Iterator[str]:
    with _open(page, settings, {"Accept": _ACCEPT}) as response:
        text, base = _text(response), _with_user(response.geturl(), page)
        kind = response.headers.get_content_type()
    links = _json_links(base, text) if kind.endswith("json") else _html_links(base, text)
    # A page from the network has no say over files of this machine.
    yield from (link for link in links if urlsplit(link).scheme in ("http", "https"))


def _text(stream: IO[bytes]) -> str:
    body = stream.read(PAGE_BYTES_MAX + 1)
    if len(body) > PAGE_BYTES_MAX:
        raise ValueError(f"the page is longer than {PAGE_BYTES_MAX} bytes")
    return body.decode("utf-8", "replace")


def _json_links(base: str, text: str) -> list[str]:
    match json.loads(text):
        case {"files": list(files)}:
            urls = (file.get("url") for file in files if isinstance(file, dict))
            return [urljoin(base, url) for url in urls if isinstance(url, str)]
    raise ValueError("the page lists no files")


def _html_links(base: str, text: str) -> list[str]:
    anchors = _Anchors()
    anchors.feed(text)
    return [urljoin(base, link) for link in anchors.links]


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _filename(link: str) -> str:
    return unquote(urlsplit(link).path.rpartition("/")[2])


def _bare(url: str) -> str:
    """The address without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _with_user(url: str, page: str) -> str:
    """The address a page was found at, with the user of the page asked for, as long as the host is the same."""
    found, asked = urlsplit(url), urlsplit(page)
    same = found.netloc == asked.netloc.rpartition("@")[2] and found.scheme == asked.scheme
    return urlunsplit(found._replace(netloc=asked.netloc)) if same else url


def _shown(url: str) -> str:
    """An address as an error may show it: without the secrets that some carry."""
    return _bare(url) if urlsplit(url).scheme in ("http", "https") else url
