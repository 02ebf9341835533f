"""One batch build: survey, sample, train, encode, measure, publish; each step is skipped where it is done already.

Knows no file format, no terminal, no SQL and no HTTP.
"""

import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models import Codec
from service.builds.choice import chosen_codec
from service.builds.config import BuildConfig
from service.builds.copies import Copy, copied
from service.builds.duplicates import duplicates
from service.builds.found import Found, found
from service.builds.inputs import Input, surveyed
from service.builds.making import Making, Report, write_rejects
from service.builds.manifest import NAME, Manifest
from service.builds.remote import RemoteFile
from service.builds.sample import Queries, topped_up
from service.builds.shard import Shard, Task, shard_name
from service.builds.table import Table
from service.builds.workers import encode_all
from service.cluster.encoding import encode_on_cluster
from service.errors import BuildError, TooManyRejects
from service.files import DRAFT, described, published
from service.index.segment import scan_of


@dataclass(frozen=True)
class Outcome:
    """What a build did."""

    manifest: Manifest
    certificate: dict[str, Any]
    encoded: int
    """Rows read for new shards."""
    codec: str
    """"trained", "kept", "taken", or "unchanged" where there was nothing to do."""
    worker_peak: int = 0


class BatchBuild:
    """One build of one folder; a lock keeps a second one away."""

    def __init__(self, config: BuildConfig, report: Report) -> None:
        self._config = config
        self._folder = config.output
        self._work = config.work
        self._report = report

    def run(self) -> Outcome:
        """Builds what is missing.

        Raises:
            BuildError, CodecError
        """
        sources, remote = found(self._config.inputs), self._config.remote
        if self._config.reading.ids is not None and [Path(str(one)).suffix for one in sources] != [".npy"]:
            raise BuildError("names the rows of exactly one .npy file", field="--ids")
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BuildError(f"another build is at work in {self._folder}", field="--output") from None
        try:
            if remote is None:
                return self._run(sources)
            remote.begun(self._folder, self._report)
            if remote.ahead(self._folder):  # what a retraining cut off at its last step has left is put there first
                self._config = replace(self._config, retrain=False)
            outcome = self._run(sources)
            remote.put(self._folder, self._report)
            return outcome
        finally:
            os.close(lock)

    def _run(self, sources: list[Found]) -> Outcome:
        config = self._config
        old = Manifest.load(self._folder) if (self._folder / NAME).exists() else None
        inputs = self._survey(sources, old)
        if config.retrain and old is not None and not (self._work / "retrain").exists():
            shutil.rmtree(self._work, ignore_errors=True)
            self._work.mkdir()
            (self._work / "retrain").touch()  # a retraining cut off goes on, and does not begin again
        codec, how, about = chosen_codec(config, inputs, old, self._report)
        asked = {"metric": codec.metric.value, "part_rows": config.part_rows, "codec": about}
        same = old is not None and old.asked == asked and old.sources() == inputs
        if old is not None and same and old.damaged(self._folder, thoroughly=False) is None:
            self._sweep(old)
            return Outcome(old, old.certificate(self._folder), 0, "unchanged")
        block_rows = config.block_rows(codec.dim)
        kept = self._queries(inputs, codec, block_rows, old, how)
        fingerprint = codec.fingerprint
        names = [f"shards/{shard_name(source, part, fingerprint)}" for source in inputs for part in source.parts]
        encoded, worker_peak = self._encode(inputs, names, codec, block_rows)
        shards = [Shard(self._folder / name) for name in names]
        generation = f"generation-{_key(fingerprint, names, about)}"
        doubles = duplicates(inputs, shards)
        rejected = sum(shard.rejected for shard in shards) + sum(len(rows) for rows in doubles.values())
        self._check_rejects(rejected)
        if not sum(shard.items for shard in shards):
            raise BuildError(f"no row can be kept; {write_rejects(shards, {}, self._work)} says why", field="INPUT")
        hurt = old.damaged(self._folder, thoroughly=False) if old is not None else None
        if hurt is not None and hurt.startswith(generation):
            shutil.rmtree(self._folder / generation)
        if not (self._folder / generation / "certificate.json").exists():
            made = Making(inputs, shards, doubles, codec, kept, config.reading, block_rows, self._report)
            made.publish(self._folder / generation, self._work / "generation", about)
        certificate = json.loads((self._folder / generation / "certificate.json").read_text())
        parts = ("certificate.json", "codec.safetensors", "queries.safetensors", "rejects.ndjson", "rows.npy")
        files = sorted({*names, *(f"{generation}/{part}" for part in (*parts, *scan_of(codec).files))})
        manifest = Manifest(
            asked,
            fingerprint,
            codec.metric.value,
            codec.dim,
            certificate["items"],
            rejected,
            generation,
            [source.to_dict() for source in inputs],
            names,
            described(self._folder, files, old.files if old is not None else {}),
        )
        manifest.save(self._folder)
        self._sweep(manifest)
        return Outcome(manifest, certificate, encoded, how, worker_peak)

    def _survey(self, sources: list[Found], old: Manifest | None) -> list[Input]:
        known = [] if old is None or old.asked["part_rows"] != self._config.part_rows else old.sources()
        files, total = self._files(sources, known)
        done = 0

        def told(size: int) -> None:
            nonlocal done
            done += size
            self._report("reading", done, total)

        return surveyed(files, self._config.reading, self._config.part_rows, known, told)

    def _files(self, sources: list[Found], known: list[Input]) -> tuple[list[Path | RemoteFile | Copy], int]:
        """What can be read where it is, and copies of the rest; and their bytes."""
        config, files, total = self._config, list[Path | RemoteFile | Copy](), 0
        versions = {one.path: (one.size, one.version) for one in known if one.version}
        shutil.rmtree(config.copies, ignore_errors=True)
        for number, source in enumerate(sources):
            if isinstance(source, Table):
                names = [one.path for one in known]
                columns, folder = config.reading.columns, config.copies / str(number)
                files += source.copies(columns, folder, config.part_rows, names, self._report)
            elif isinstance(source, RemoteFile):
                told = source.told()
                readable = versions.get(str(source)) == told or source.readable(told)
                files.append(source if readable else copied(source, config.copies, number, lambda _: None))
                total += told.size or 0
            else:
                files.append(source)
                total += source.stat().st_size
        return files, total

    def _queries(self, inputs: list[Input], codec: Codec, block_rows: int, old: Manifest | None, how: str) -> Queries:
        if how == "trained":
            return Queries.load(self._work / "queries.safetensors")
        before = None
        if old is not None and how == "kept":
            before = Queries.load(self._folder / old.generation / "queries.safetensors")
        reading, seed = self._config.reading, self._config.training.seed
        return topped_up(before, inputs, reading, codec.dim, codec.metric, block_rows, seed)

    def _encode(self, inputs: list[Input], names: list[str], codec: Codec, block_rows: int) -> tuple[int, int]:
        config = self._config
        parts = [(source, part) for source in inputs for part in source.parts]
        pairs = {name: pair for name, pair in zip(names, parts, strict=True) if not (self._folder / name).exists()}
        tasks = [Task(self._folder / name, *pair, config.reading, block_rows) for name, pair in pairs.items()]
        total, encoded = sum(len(task.part) for task in tasks), 0
        rejected = sum(Shard(self._folder / name).rejected for name in set(names) - pairs.keys())
        saved = self._work / "encoding.safetensors"
        with published(saved) as draft:
            draft.write_bytes(codec.to_bytes())

        def counted(rows: int) -> None:
            nonlocal encoded
            encoded += rows
            self._report("encoding", encoded, total)
            if config.max_rejects is not None:
                there = [self._folder / name for name in pairs if (self._folder / name).exists()]
                self._check_rejects(rejected + sum(Shard(path).rejected for path in there))

        self._report("encoding", 0, total)
        if config.cluster is not None:
            return total, encode_on_cluster(tasks, codec, config.cluster, counted)
        return total, encode_all(tasks, codec, saved, config.workers, counted)

    def _check_rejects(self, rejected: int) -> None:
        most = self._config.max_rejects
        if most is not None and rejected > most:
            paths = sorted((self._folder / "shards").glob("*.safetensors"))
            where = write_rejects([Shard(path) for path in paths], {}, self._work)
            raise TooManyRejects(
                f"{rejected:,} rows are rejected, {most:,} may be; {where} says why", field="--max-rejects"
            )

    def _sweep(self, manifest: Manifest) -> None:
        """Removes what the manifest does not name: old shards and generations, drafts, the work folder, copies."""
        for left in (self._work, self._config.copies):
            shutil.rmtree(left, ignore_errors=True)
        for path in (self._folder / "shards").iterdir():
            if f"shards/{path.name}" not in manifest.files:
                path.unlink()
        for path in self._folder.iterdir():
            if path.name.startswith("generation-") and path.name != manifest.generation:
                shutil.rmtree(path)
            elif path.name.endswith(DRAFT):
                path.unlink()


def _key(*content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
