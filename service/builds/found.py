"""What the INPUTs of a build name: local files, files at URLs, tables. Reads none of them."""

import glob
import json
import re
from collections.abc import Sequence
from pathlib import Path

from service.builds.address import is_url, joined, path_of, scheme, split
from service.builds.inputs import SUFFIXES
from service.builds.remote import NotThere, RemoteFile
from service.builds.table import SCHEMES, Table
from service.errors import BuildError

Found = Path | RemoteFile | Table


def found(patterns: Sequence[str]) -> list[Found]:
    """The files that paths, URLs, globs and folders of saved datasets name, sorted, each once, local ones first; then
    the tables.

    Raises:
        BuildError: one of them names nothing, or two URLs differ only in what is not kept of them.
    """
    paths, remote, tables = set[Path](), dict[str, RemoteFile](), dict[str, Table]()
    for pattern in map(path_of, patterns):
        if scheme(pattern) in SCHEMES:
            table = Table.of(pattern)
            tables[str(table)] = table
        elif is_url(pattern):
            for file in _remote(pattern):
                if remote.setdefault(str(file), file).url != file.url:
                    raise BuildError(
                        f"{file} is given twice, with other users or queries, which may be secrets and are not kept",
                        field="INPUT",
                    )
        else:
            paths.update(_local(pattern))
    return [*sorted(paths), *(remote[name] for name in sorted(remote)), *(tables[name] for name in sorted(tables))]


def _local(pattern: str) -> list[Path]:
    named = [Path(pattern)] if Path(pattern).exists() else [Path(one) for one in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    if not named:
        raise BuildError(f"{pattern} names no file", field="INPUT")
    return [file for path in named for file in (_dataset(path) if path.is_dir() else [path])]


def _remote(url: str) -> list[RemoteFile]:
    file = RemoteFile(url)
    if "::" in url:
        raise BuildError(f"{file} chains file systems by ::, which is not read", field="INPUT")
    if re.search(r"[*?[]", split(url)[0]):
        system, pattern = file.opened_system()
        with file.explained():
            system.invalidate_cache()
            names = system.glob(pattern)
        place, query = split(url)
        before = place[: -len(pattern)] if place.endswith(pattern) else place[: place.index("://") + 3]
        mark = "?" if query else ""
        named = [RemoteFile(one if is_url(one) else f"{before}{one}{mark}{query}") for one in names]
        if not named:
            raise BuildError(f"{file} names no file", field="INPUT")
        return named
    if file.name.endswith(SUFFIXES):
        return [file]
    return _remote_dataset(file)


def _remote_dataset(file: RemoteFile) -> list[RemoteFile]:
    try:
        content = RemoteFile(joined(file.url, "state.json")).open().read()
        return [RemoteFile(joined(file.url, one["filename"])) for one in json.loads(content)["_data_files"]]
    except (NotThere, ValueError, KeyError, TypeError):
        known = ", ".join(SUFFIXES)
        raise BuildError(f"{file} ends in none of {known}, and is no saved dataset", field="INPUT") from None


def _dataset(folder: Path) -> list[Path]:
    """The Arrow files of a dataset that `save_to_disk` wrote."""
    if (folder / "dataset_dict.json").exists():
        splits = ", ".join(json.loads((folder / "dataset_dict.json").read_text())["splits"])
        raise BuildError(f"{folder} holds several datasets; name one of its folders: {splits}", field="INPUT")
    if not (folder / "state.json").exists():
        raise BuildError(f"{folder} is a folder, and no saved dataset; name its files: '{folder}/*'", field="INPUT")
    return [folder / one["filename"] for one in json.loads((folder / "state.json").read_text())["_data_files"]]
