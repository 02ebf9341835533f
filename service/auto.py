"""A training whose codec nobody named: planned for, then the cheapest that keeps the contract is trained and published.

Runs in a job's own process.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.contract import ContractSpec
from service.errors import ContractBroken, TooFewItems
from service.files import write_json
from service.generation import Build
from service.planner import Planner
from service.planning.wish import USUAL, PlanSpec
from service.settings import Settings
from service.store.database import Database
from service.store.tables import CollectionRow
from service.swap import Fence, Report

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Codecs that are trained at most: a plan's figures are a sample's, the certificate has the last word."""
PLANNED = 0.3
"""Share of the job."""


class Auto:
    """One training of one collection."""

    def __init__(
        self,
        database: Database,
        collection_id: int,
        parameters: Mapping[str, Any],
        scratch: Path,
        report: Report,
        fence: Fence,
    ) -> None:
        self._database = database
        self._id = collection_id
        self._parameters = parameters
        self._scratch = scratch
        self._report = report
        self._fence = fence
        self._state = scratch / "auto.json"

    @staticmethod
    def is_asked(database: Database, collection_id: int, parameters: Mapping[str, Any]) -> bool:
        """Whether the training's codec, or else the collection's, is to be chosen."""
        with database.reading() as session:
            row = session.get(CollectionRow, collection_id)
            codec = parameters.get("codec") or (row.codec if row is not None else {})
        return bool(codec.get("kind") == "auto")

    def run(self, settings: Settings) -> dict[str, Any]:
        """What the job shows as its result: that of the training that was published, with the plan.

        A job that is taken up again goes on with the plan and the codec that it was at.

        Raises:
            TooFewItems, CollectionNotFound, TrainingStopped; ContractBroken: of the last codec that was tried.
        """
        contract = self._contract()
        plan, attempt = self._begun(contract, settings)
        choices = plan["order"][:ATTEMPTS]
        if not choices:
            raise TooFewItems(f"no code could be trained: {plan['failed']}", field="collection")
        while True:
            codec = choices[attempt]
            parameters = {**self._parameters, "codec": codec, "contract": contract.stored()}
            build = Build(self._database, self._id, parameters, self._scratch, self._later(codec), self._fence)
            try:
                result = build.run(
                    settings.train_sample,
                    keep=settings.keep_generations,
                    most_oversample=settings.max_oversample,
                    pictures=settings.pictures,
                )
                return result | {"plan": plan, "codec": codec}
            except ContractBroken as broken:
                attempt += 1
                if attempt == len(choices):
                    raise ContractBroken(broken.detail, broken.result | {"plan": plan, "codec": codec}) from broken
                log.info("%s did not keep the contract; trying the next of the plan", codec)
                shutil.rmtree(self._scratch / "checkpoint", ignore_errors=True)
                write_json(self._state, {"plan": plan, "attempt": attempt})

    def _contract(self) -> ContractSpec:
        """The training's, or the collection's; where neither asks for a recall, for the usual one."""
        with self._database.reading() as session:
            row = session.get(CollectionRow, self._id)
        given = self._parameters.get("contract") or (row.contract if row is not None else None) or {}
        contract = ContractSpec.model_validate(given) if given else USUAL
        return contract if contract.recalls else ContractSpec.model_validate(USUAL.stored() | contract.stored())

    def _begun(self, contract: ContractSpec, settings: Settings) -> tuple[dict[str, Any], int]:
        if self._state.exists():
            kept = json.loads(self._state.read_text())
            return kept["plan"], kept["attempt"]
        seed = (self._parameters.get("training") or {}).get("seed", 0)
        wish = PlanSpec(contract=contract, seed=seed)
        planner = Planner(self._database, self._id, wish, settings)
        plan = planner.run(lambda share, doing: self._report(PLANNED * share, f"planning: {doing}")).record()
        write_json(self._state, {"plan": plan, "attempt": 0})
        return plan, 0

    def _later(self, codec: Mapping[str, Any]) -> Report:
        """Of a training after the plan."""
        named = codec.get("factory") or f"{codec['kind']} of {codec['bytes']} bytes"
        return lambda share, doing: self._report(PLANNED + (1 - PLANNED) * share, f"{doing} ({named})")
