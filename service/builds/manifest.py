"""manifest.json: what a built folder is made of, written last. Knows no codec and no index."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from service.builds.inputs import Input
from service.errors import DamagedGeneration
from service.files import damaged, write_json

NAME = "manifest.json"
FORMAT, READ = 4, (3, 4)
"""Of the folder: what is written, and what is not refused. In 3 residual codes stood in 256 lists, however many."""


@dataclass(frozen=True)
class Manifest:
    """A folder is what its manifest says, or it is refused."""

    asked: dict[str, Any]
    """The options that the result depends on."""
    fingerprint: str
    metric: str
    dimension: int
    items: int
    rejected: int
    generation: str
    """Folder of codec, index and certificate."""
    inputs: list[dict[str, Any]]
    shards: list[str]
    """In the order of their rows."""
    files: dict[str, dict[str, Any]]
    """Bytes and SHA-256 of every file by its path in the folder."""
    format: int = FORMAT

    def sources(self) -> list[Input]:
        """The inputs as they were."""
        return [Input.from_dict(given) for given in self.inputs]

    def save(self, folder: Path) -> None:
        """Publishes it: from now on the folder is this generation."""
        write_json(folder / NAME, asdict(self))

    def check(self, folder: Path) -> None:
        """Reads every file.

        Raises:
            DamagedGeneration: one is missing or not what was written; the message names it.
        """
        if (name := self.damaged(folder, thoroughly=True)) is not None:
            again = " with --retrain" if name.endswith("codec.safetensors") else ""
            raise DamagedGeneration(
                f"{folder / name} is not the file that was written; remove it and run the same `codewell build` again"
                f"{again}",
                field=name,
            )

    def certificate(self, folder: Path) -> dict[str, Any]:
        """What was measured of it."""
        read: dict[str, Any] = json.loads((folder / self.generation / "certificate.json").read_text(encoding="utf-8"))
        return read

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """The folder's manifest.

        Raises:
            DamagedGeneration: there is none, or none that this program reads.
        """
        path = folder / NAME
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise DamagedGeneration(f"{path} is missing: `codewell build` has not ended there") from None
        except OSError as error:
            raise DamagedGeneration(f"{path} cannot be read: {error}") from error
        return cls.parsed(content, str(path))

    @classmethod
    def parsed(cls, content: bytes, where: str) -> "Manifest":
        """What `save` wrote; errors say `where` it was.

        Raises:
            DamagedGeneration
        """
        try:
            given = json.loads(content)
            if given["format"] not in READ:
                raise DamagedGeneration(
                    f"{where} is of format {given['format']}, and this program reads {READ[0]} to {FORMAT}; remove it "
                    "and run the same `codewell build` again: what is encoded stays so"
                )
            return cls(**given)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedGeneration(f"{where} cannot be read: {error}") from error

    def damaged(self, folder: Path, *, thoroughly: bool) -> str | None:
        """The first file that is not what was written: by size or, thoroughly, by checksum."""
        return damaged(folder, self.files, thoroughly=thoroughly)
