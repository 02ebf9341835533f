"""The service as one caller may use it: routes are handed nothing else. Knows no HTTP.

What is not named here no route can call, so that a new method of the catalog is out of reach until somebody has said
here whose it is. Collections are checked by the name that an alias stands for in that moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.bootstrap import Codewell
from service.catalog import Catalog, Description
from service.collection import Collection
from service.errors import CollectionNotFound, JobNotFound, Unavailable
from service.filter import Filter
from service.generations import Generation, Generations
from service.index.segment import IndexKind
from service.item import Malformed, NewItem
from service.job import Job
from service.jobs import Jobs
from service.keys import Keys
from service.quota import Quota
from service.receipt import Receipt
from service.retrain import RetrainSpec
from service.rights import Rights
from service.scrape import Scrape
from service.settings import Settings
from service.terms import Terms


class PermittedCatalog:
    """The catalog within a caller's collections; `Catalog` says what each method does."""

    def __init__(self, catalog: Catalog, rights: Rights, quota: Quota) -> None:
        self._catalog = catalog
        self._rights = rights
        self._quota = quota

    def open(self, name: str, field: str = "collection") -> Collection:
        """Raises CollectionNotFound; Forbidden: whether there is such a collection or not."""
        return self._catalog.open(name, field, self._rights)

    def name_of(self, name: str) -> str:
        """The name of the collection itself. It can be used later: an alias could be another's by then."""
        return name if self._rights.collections is None else self.open(name).name

    def ingest(self, name: str, items: Sequence[NewItem | Malformed], terms: Terms) -> Receipt:
        """Makes a missing collection only where its name is reached; keeps no more than the caller may."""
        terms = replace(terms, quota=self._quota)
        try:
            return self.open(name).ingest(items, terms)
        except CollectionNotFound:
            self._rights.require_collection(name, "collection")
            return self._catalog.ingest(name, items, terms)

    def create(self, name: str, **given: Any) -> Collection:
        """Only where the name is reached."""
        self._rights.require_collection(name, "name")
        return self._catalog.create(name, **given)

    def delete(self, name: str) -> None:
        """By the collection's own name."""
        self._rights.require_collection(name, "collection")
        self._catalog.delete(self.name_of(name))

    def set_log_queries(self, name: str, log_queries: bool) -> None:
        """Refused for a collection out of reach."""
        self._catalog.set_log_queries(self.name_of(name), log_queries)

    def set_retrain(self, name: str, retrain: RetrainSpec | None) -> None:
        """As above."""
        self._catalog.set_retrain(self.name_of(name), retrain)

    def describe(self, name: str) -> Description:
        """One collection."""
        return self._catalog.describe(self.name_of(name))

    def list(self) -> list[Description]:
        """Those that are reached."""
        return [one for one in self._catalog.list() if self._rights.reaches(one.name)]

    def count(self) -> int | None:
        """How many there are; none for a caller who does not reach them all."""
        count = self._catalog.count()
        return count if self._rights.collections is None else None

    def aliases(self) -> dict[str, str]:
        """Those of collections that are reached."""
        return {alias: name for alias, name in self._catalog.aliases().items() if self._rights.reaches(name)}

    def point_alias(self, alias: str, name: str) -> None:
        """Names are everyone's: whoever may give them out must reach all collections."""
        self._rights.require_all("aliases")
        self._catalog.point_alias(alias, name)

    def remove_alias(self, alias: str) -> None:
        """As above."""
        self._rights.require_all("aliases")
        self._catalog.remove_alias(alias)


class PermittedJobs:
    """The jobs of a caller's collections; of others' it is said that there are none. `Jobs` has the rest."""

    def __init__(self, jobs: Jobs, catalog: PermittedCatalog, rights: Rights) -> None:
        self._jobs = jobs
        self._catalog = catalog
        self._rights = rights

    def submit(self, collection: str, kind: str, parameters: Mapping[str, Any]) -> Job:
        """Raises what `open` does, too."""
        return self._jobs.submit(self._catalog.name_of(collection), kind, parameters)

    def submit_plan(self, collection: str, parameters: Mapping[str, Any]) -> Job:
        """Raises what `open` does, too."""
        return self._jobs.submit_plan(self._catalog.name_of(collection), parameters)

    def submit_rollback(self, collection: str, generation_id: int | None) -> Job:
        """Raises what `open` does, too."""
        return self._jobs.submit_rollback(self._catalog.name_of(collection), generation_id)

    def submit_cut(self, collection: str, size: int) -> Job:
        """Raises what `open` does, too."""
        return self._jobs.submit_cut(self._catalog.name_of(collection), size)

    def list(self, collection: str | None = None) -> list[Job]:
        """Those of one collection, or of all that are reached."""
        name = None if collection is None else self._catalog.name_of(collection)
        return self._jobs.list(name, within=self._rights.collections)

    def get(self, job_id: str) -> Job:
        """Raises JobNotFound."""
        job = self._jobs.get(job_id)
        if not self._rights.reaches(job.collection):
            raise JobNotFound(job_id)
        return job

    def picture(self, job_id: str, name: str) -> bytes:
        """Raises JobNotFound, PictureNotFound."""
        return self._jobs.picture(self.get(job_id).id, name)

    def cancel(self, job_id: str) -> Job:
        """Raises JobNotFound."""
        return self._jobs.cancel(self.get(job_id).id)


class PermittedGenerations:
    """The generations of a caller's collections; `Generations` says what each method does."""

    def __init__(self, generations: Generations, catalog: PermittedCatalog) -> None:
        self._generations = generations
        self._catalog = catalog

    def list(self, collection: str) -> list[Generation]:
        """Raises what `open` does, too."""
        return self._generations.list(self._catalog.name_of(collection))

    def published(self, collection: str) -> Generation:
        """Raises what `open` does, too."""
        return self._generations.published(self._catalog.name_of(collection))


def quota_of(settings: Settings, rights: Rights) -> Quota:
    """How much a caller may keep: what its key says or, where that says nothing, the settings."""
    quota, own = Quota(settings.max_collection_items, settings.max_collection_bytes), rights.allowance
    if own is None:
        return quota
    return replace(
        quota,
        key_items=settings.max_key_items if own.max_items is None else own.max_items,
        key_bytes=settings.max_key_bytes if own.max_bytes is None else own.max_bytes,
        reached=rights.collections,
    )


class Permitted:
    """What the routes see of the service."""

    def __init__(self, codewell: Codewell, rights: Rights) -> None:
        self.settings = codewell.settings
        self.quota = quota_of(codewell.settings, rights)
        self.catalog = PermittedCatalog(codewell.catalog, rights, self.quota)
        self.jobs = PermittedJobs(codewell.jobs, self.catalog, rights)
        self.generations = PermittedGenerations(codewell.generations, self.catalog)
        self._keys = codewell.keys
        self._scrape = codewell.scrape
        self._warming = codewell.warming
        self._metrics = codewell.metrics
        self._rights = rights

    @property
    def keys(self) -> Keys:
        """Raises Forbidden where the caller does not reach all collections: it could make itself a key that does."""
        self._rights.require_all("API keys")
        return self._keys

    @property
    def scrape(self) -> Scrape:
        """Raises Forbidden where the caller does not reach all collections: their names are in it."""
        self._rights.require_all("metrics")
        return self._scrape

    def losses(
        self, collection: Collection, kind: IndexKind, wanted: Filter | None, queries: int, seconds: float
    ) -> dict[str, Any]:
        """Where a collection, opened for this caller, loses recall.

        The metrics are told where all items were looked at: what a filter or too little time leaves out would make a
        curve of samples, not of the collection.
        """
        told = collection.losses(kind, wanted, queries, seconds, self.settings.max_oversample)
        if wanted is None and not told["items_left_out"]:
            self._metrics.sampled(collection.name, told["generation"], kind, told["recall@10"]["value"], told["lost"])
        return told

    def check_warm(self) -> None:
        """Raises Unavailable while views that the last server held are still loaded."""
        if not self._warming.done:
            raise Unavailable("the codes of the collections are still being loaded; try again")
