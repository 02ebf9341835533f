"""One file on a file system that fsspec knows: what is told of it, and ranges of its bytes. Knows no format.

Every error is a BuildError that names the URL without its secrets; it comes after the file system's own retries.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, NamedTuple, cast

from service.builds.address import scheme, scrubbed, shown
from service.errors import BuildError

BUFFER_BYTES = 4 * 1024 * 1024
"""Asked for at once where a file is read from one end to the other."""
CONNECT_SECONDS, SILENT_SECONDS = 30, 120
"""Longest that a server over HTTP may take until it is connected, and between two pieces of an answer."""
SAYS_CONTENT = (
    *("generation", "ETag", "etag", "blob_id", "md5Hash", "Content-MD5"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "modified", "created"),
)
"""What file systems call what changes with a file's content; the first that is there counts."""


class Told(NamedTuple):
    """What a file system says of a file's content without its being read."""

    size: int | None
    version: str
    """ETag, generation or time of its last change; "" where it tells none."""


class NotThere(BuildError):
    """There is no such file."""

    title = "Not there"


@dataclass(frozen=True)
class RemoteFile:
    """Has of a Path what readers need. Small, and the same in another process."""

    url: str = field(repr=False)
    option: str = "INPUT"
    """What errors are of."""

    def __str__(self) -> str:
        return shown(self.url)

    @property
    def name(self) -> str:
        """The last part, without a query."""
        return PurePosixPath(str(self)).name

    @property
    def suffix(self) -> str:
        """With its dot."""
        return PurePosixPath(self.name).suffix

    def told(self) -> Told:
        """As it is now.

        Raises:
            BuildError
        """
        system, path = self.opened_system()
        with self.explained():
            system.invalidate_cache()
            info = system.info(path)
        version = next((str(info[name]).strip('"') for name in SAYS_CONTENT if info.get(name)), "")
        return Told(info.get("size"), version)

    def readable(self, told: Told) -> bool:
        """Whether it can be read where it is: the file system tells its size and what changes with its content, and
        gives parts of it, as others than those over HTTP do.
        """
        if told.size is None or not told.version:
            return False
        if scheme(self.url) not in ("http", "https") or told.size < 2:
            return True
        system, path = self.opened_system()
        with self.explained():
            try:
                with system.open(path, "rb", cache_type="none") as file:
                    file.seek(1)
                    file.read(1)
            except ValueError:
                return False
        return True

    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO:  # noqa: ARG002 - as a Path is opened
        """To be read in pieces of BUFFER_BYTES."""
        return buffered(self.pieces())

    def pieces(self) -> "Pieces":
        """To be read exactly as asked for."""
        return Pieces(self)

    def ranges(self, begins: Sequence[int], ends: Sequence[int]) -> list[bytes]:
        """The bytes of each range, many at a time where the file system can.

        Raises:
            BuildError: among others, where one of them is not whole.
        """
        system, path = self.opened_system()
        with self.explained():
            got = system.cat_ranges([path] * len(begins), list(begins), list(ends), on_error="raise")
        for begin, end, content in zip(begins, ends, got, strict=True):
            self.check_whole(begin, end - begin, len(content))
        return cast(list[bytes], got)

    def copy_to(self, path: Path, told: Callable[[int], object] = lambda _: None) -> None:
        """Writes the whole file there; `told` hears of the bytes."""
        system, own = self.opened_system()
        with self.explained(), path.open("wb") as to:
            size = system.info(own).get("size")
            with system.open(own, "rb", **({"block_size": 0} if scheme(self.url) in ("http", "https") else {})) as file:
                while chunk := file.read(BUFFER_BYTES):
                    to.write(chunk)
                    told(len(chunk))
            if size is not None:
                self.check_whole(0, size, to.tell())

    def check_whole(self, begin: int, wanted: int, got: int) -> None:
        """Raises a BuildError where a range is not as long as it was asked for."""
        if got != wanted:
            raise BuildError(
                f"{self} gave {got:,} bytes instead of {wanted:,} from byte {begin:,} on: it breaks off or has changed",
                field=self.option,
            )

    def opened_system(self) -> tuple[Any, str]:
        """A file system of fsspec's, and what it calls the file.

        Raises:
            BuildError: a package is missing, or the file system cannot be reached.
        """
        protocol = scheme(self.url)
        options: dict[str, Any] = {}
        try:
            from fsspec.core import url_to_fs

            if protocol in ("http", "https"):
                from aiohttp import ClientTimeout

                silent = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
                options["client_kwargs"] = {"timeout": silent}
            with self.explained():
                system, path = url_to_fs(self.url, **options)
        except ImportError as error:
            missing = "" if protocol in ("http", "https") else f" ({str(error).strip('.')})"
            raise BuildError(
                f"{self} needs a package that is not here{missing}: pip install 'codewell[urls]' brings fsspec and "
                "HTTP, 'codewell[s3]' S3",
                field=self.option,
            ) from None
        return system, path

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Makes one BuildError of whatever a file system raises."""
        try:
            yield
        except (BuildError, ImportError):
            raise
        except FileNotFoundError:
            raise NotThere(f"{self} is not there", field=self.option) from None
        except Exception as error:
            status = getattr(error, "status", None)
            text = f"{status} {getattr(error, 'message', '')}" if isinstance(status, int) else str(error)
            said = scrubbed(text, self.url).strip() or type(error).__name__
            raise BuildError(f"{self} cannot be read or written: {said}", field=self.option) from None


class Pieces(io.RawIOBase):
    """A file's bytes, each piece asked of the file system when it is read, and nothing kept."""

    def __init__(self, of: RemoteFile) -> None:
        self._of = of
        self._at = 0
        system, path = of.opened_system()
        with of.explained():
            self.size: int = system.info(path)["size"]
            self._file: Any = system.open(path, "rb", cache_type="none") if self.size else io.BytesIO()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The byte that is read next."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Asks for nothing."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As many bytes as fit, fewer only at the end of the file.

        Raises:
            BuildError
        """
        wanted = min(len(buffer), self.size - self._at)
        if wanted <= 0:
            return 0
        with self._of.explained():
            self._file.seek(self._at)
            content = self._file.read(wanted)
        self._of.check_whole(self._at, wanted, len(content))
        buffer[:wanted] = content
        self._at += wanted
        return wanted

    def close(self) -> None:
        """Lets go of the file system's own file."""
        if not self.closed:
            self._file.close()
        super().close()


def buffered(pieces: Pieces) -> BinaryIO:
    """Asks for BUFFER_BYTES at once."""
    return cast(BinaryIO, io.BufferedReader(cast(io.FileIO, pieces), BUFFER_BYTES))
