"""A built folder at a URL, and its copy here: what is missing is fetched, what is new is put there, manifest last.

Knows no step of a build.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from service.builds.address import is_url, joined, path_of, scheme, shown
from service.builds.manifest import NAME, Manifest
from service.builds.remote import NotThere, RemoteFile
from service.errors import BuildError, DamagedGeneration
from service.files import checksum, locked, published

SYNCED = "synced"
"""File of the local folder: SHA-256 of the manifest that was at the URL when the two were last the same."""
TRIES = 3
"""To fetch a build while others replace it."""
SMALL = 1024 * 1024
"""Bytes of a file that is put there again where nothing says that it is the same."""
OURS = re.compile(r"shards/[0-9a-zA-Z.-]+\.safetensors|generation-[0-9a-f]+/[a-z]+(\.[a-z]+)?")
"""What a build writes beside its manifest; nothing else is fetched, and nothing else removed."""

Report = Callable[[str, float, float], object]
"""Told the step, how much of it is done, and of how much: bytes."""


def quiet(step: str, done: float, total: float) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder at a URL. Two builds of it at the same time are told apart by their manifests: the second one ends with
    an error.
    """

    url: str = field(repr=False)
    option: str = "--output"

    def __str__(self) -> str:
        return shown(self.url)

    @property
    def cached(self) -> Path:
        """Where it is kept here for those who read it."""
        return self._under("read")

    @property
    def worked_on(self) -> Path:
        """Where a build of it works, if not told otherwise."""
        return self._under("build")

    def begun(self, folder: Path, report: Report = quiet) -> None:
        """Before a build in `folder`: fetches what is there, if anyone has changed it since this folder was the same.

        Raises:
            BuildError
        """
        if scheme(self.url) in ("http", "https"):
            raise BuildError(f"{self} can only be read", field=self.option)
        content, synced = self._manifest(), self._synced(folder)
        if content is None:
            if synced is None:
                self._sync(folder, (folder / NAME).read_bytes() if (folder / NAME).exists() else b"")
            return
        if _digest(content) == synced:
            return
        if not (folder / NAME).exists() or (folder / NAME).read_bytes() != content:
            self.fetch(folder, report)
        self._sync(folder, content)

    def ahead(self, folder: Path) -> bool:
        """Whether a build has ended in `folder` that has not got to the URL."""
        there = (folder / NAME).exists()
        return there and _digest((folder / NAME).read_bytes()) != self._synced(folder)

    def fetch(self, folder: Path, report: Report = quiet) -> None:
        """Makes `folder` hold the build, every file compared with its checksum; what is there already stays.

        Raises:
            DamagedGeneration: there is none, or a file is not what was written. BuildError
        """
        for tried in range(TRIES):
            content = self._manifest()
            if content is None:
                raise DamagedGeneration(f"{self}/{NAME} is missing: `codewell build` has not ended there")
            manifest = Manifest.parsed(content, f"{self}/{NAME}")
            try:
                self._fetch(manifest, folder, report)
            except NotThere:  # the next build removes what it does not name
                if tried + 1 == TRIES or self._manifest() == content:
                    raise
                continue
            with published(folder / NAME) as draft:
                draft.write_bytes(content)
            return

    def put(self, folder: Path, report: Report = quiet) -> None:
        """Makes the URL hold what `folder` holds.

        Raises:
            BuildError: among others, where another build has been put there since `begun`.
        """
        system, root = RemoteFile(self.url, self.option).opened_system()
        file, root = RemoteFile(joined(self.url, NAME), self.option), root.rstrip("/")
        content = (folder / NAME).read_bytes()
        manifest, before = Manifest.load(folder), self._manifest()
        self._check_ours(before, content, folder)
        old = {} if before is None else Manifest.parsed(before, str(file)).files
        there = self._there(system, root)
        files = manifest.files
        wanted = [name for name in files if not _same(name, files[name], old.get(name), there.get(name))]
        done, total = 0, sum(manifest.files[name]["bytes"] for name in wanted)
        for name in wanted:
            report("uploading", done, total)
            with RemoteFile(joined(self.url, name), self.option).explained():
                system.put_file(str(folder / name), f"{root}/{name}")
            done += manifest.files[name]["bytes"]
        if before != content:
            self._check_ours(self._manifest(), content, folder)
            with file.explained():
                system.pipe_file(f"{root}/{NAME}", content)
        self._sync(folder, content)
        for name in there:
            if OURS.fullmatch(name) and name not in manifest.files:
                with file.explained():
                    system.rm_file(f"{root}/{name}")

    def _fetch(self, manifest: Manifest, folder: Path, report: Report) -> None:
        _check_names(manifest, str(self))
        done, total = 0, sum(told["bytes"] for told in manifest.files.values())
        for name, told in manifest.files.items():
            path = folder / name
            report("downloading", done, total)
            if not (path.is_file() and path.stat().st_size == told["bytes"] and checksum(path) == told["sha256"]):
                with published(path) as draft:
                    RemoteFile(joined(self.url, name), self.option).copy_to(draft)
                    if checksum(draft) != told["sha256"]:
                        draft.unlink()
                        raise DamagedGeneration(f"{self}/{name} is not the file that was written", field=name)
            done += told["bytes"]

    def _there(self, system: Any, root: str) -> dict[str, int]:
        """Bytes of every file in the folder."""
        with RemoteFile(self.url, self.option).explained():
            system.invalidate_cache()
            try:
                found = system.find(root, detail=True)
            except FileNotFoundError:
                return {}
        return {name.removeprefix(root).lstrip("/"): info["size"] for name, info in found.items()}

    def _manifest(self) -> bytes | None:
        try:
            file = RemoteFile(joined(self.url, NAME), self.option)
            system, path = file.opened_system()
            with file.explained():
                system.invalidate_cache()
                content: bytes = system.cat_file(path)
                return content
        except NotThere:
            return None

    def _check_ours(self, there: bytes | None, content: bytes, folder: Path) -> None:
        if there is not None and _digest(there) not in (self._synced(folder), _digest(content)):
            raise BuildError(
                f"another build has been put to {self} since this one began; the same command goes on from that one",
                field=self.option,
            )

    def _synced(self, folder: Path) -> str | None:
        path = folder / SYNCED
        return path.read_text() if path.exists() else None

    def _sync(self, folder: Path, content: bytes) -> None:
        with published(folder / SYNCED) as draft:
            draft.write_text(_digest(content))

    def _under(self, use: str) -> Path:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        name = PurePosixPath(str(self).partition("://")[2]).name.strip(".") or "built"
        return home / "codewell" / use / _digest(str(self).rstrip("/").encode())[:16] / name


def fetched(given: str | Path, report: Report = quiet, option: str = "GENERATION") -> Path:
    """The folder; one at a URL is fetched first, into the user's cache, and what the cache holds of older builds goes.

    Raises:
        DamagedGeneration, BuildError
    """
    place = path_of(str(given))
    if not is_url(place):
        return Path(place)
    remote = RemoteFolder(place, option)
    folder = remote.cached
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if (lock := locked(folder.parent / "lock")) is not None:  # it waits: another process may fetch the same
            stack.enter_context(lock)
        remote.fetch(folder, report)
        manifest = Manifest.load(folder)
        for path in folder.glob("shards/*"):
            if f"shards/{path.name}" not in manifest.files:
                path.unlink()
        for path in folder.glob("generation-*"):
            if path.name != manifest.generation:
                shutil.rmtree(path)
    return folder


def _same(name: str, told: dict[str, Any], old: dict[str, Any] | None, size: int | None) -> bool:
    """Whether the file is there: as the manifest there says, or, of one that a build cut off has left, by its name and
    size.
    """
    if size is None or size != told["bytes"]:
        return False
    if old is not None:
        return bool(old["sha256"] == told["sha256"])
    return name.startswith("shards/") or size > SMALL


def _check_names(manifest: Manifest, where: str) -> None:
    """A manifest from elsewhere must not write where it likes."""
    for name in (*manifest.files, *manifest.shards):
        if not OURS.fullmatch(name):
            raise DamagedGeneration(f"{where}/{NAME} names {name!r}, which no build writes")
    if not re.fullmatch(r"generation-[0-9a-f]+", manifest.generation):
        raise DamagedGeneration(f"{where}/{NAME} names {manifest.generation!r}, which no build writes")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
