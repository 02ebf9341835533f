"""What a user asks of a codec before it may answer: recall at least, bytes at most. Knows no training and no HTTP."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models import CodecConfig
from service.errors import InvalidInput
from service.questions import FEWEST_FOR_100
from service.tuning import WIDEST

RECALL = "Least recall@{k} of a search as it is by default: the lower end of the 95% interval must reach it"


class ContractSpec(BaseModel):
    """At least one condition; a training that does not keep all of them publishes nothing."""

    model_config = ConfigDict(
        extra="forbid", populate_by_name=True, json_schema_extra={"examples": [{"recall@10": 0.9, "max_bytes": 32}]}
    )

    # Not 1: no number of queries shows that not one neighbour is ever missed.
    recall_1: float | None = Field(None, alias="recall@1", gt=0, lt=1, description=RECALL.format(k=1))
    recall_10: float | None = Field(None, alias="recall@10", gt=0, lt=1, description=RECALL.format(k=10))
    recall_100: float | None = Field(None, alias="recall@100", gt=0, lt=1, description=RECALL.format(k=100))
    max_bytes: int | None = Field(None, ge=1, description="Most bytes of a code")

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("give at least one of recall@1, recall@10, recall@100 and max_bytes")
        return self

    @property
    def recalls(self) -> dict[int, float]:
        """The least recall, by k."""
        asked = {1: self.recall_1, 10: self.recall_10, 100: self.recall_100}
        return {k: least for k, least in asked.items() if least is not None}

    def stored(self) -> dict[str, Any]:
        """As JSON that `model_validate` takes."""
        return self.model_dump(exclude_none=True, by_alias=True)

    def check(self, codec: CodecConfig, dim: int) -> None:
        """Raises InvalidInput where the codec's codes of (D,) vectors are longer than the contract allows."""
        took = codec.code_bytes(dim)
        if self.max_bytes is not None and took > self.max_bytes:
            raise InvalidInput(
                f"the codec's codes take {took} bytes and the contract allows {self.max_bytes}: ask for a codec with "
                f'"bytes": {self.max_bytes}',
                field="contract.max_bytes",
            )

    def broken(self, certificate: Mapping[str, Any]) -> list[str]:
        """A sentence for each condition that the certified figures do not meet."""
        sentences = []
        for k, least in self.recalls.items():
            figures = certificate["intervals"].get(f"recall@{k}")
            if figures is None:
                sentences.append(f"recall@{k} cannot be measured on {certificate['items']} items")
            elif figures["low"] < least:
                sentences.append(
                    f"recall@{k} is {figures['value']:.4f} on {certificate['queries']} queries, {figures['low']:.4f} "
                    f"at the lower end of its interval, and the contract asks for {least:g}"
                )
        return sentences

    def remedies(self, certificate: Mapping[str, Any]) -> list[str]:
        """What would meet the contract where the certified figures do not, by what was measured."""
        figures, oversample = certificate["intervals"], certificate["oversample"]
        least = {f"recall@{k}": recall for k, recall in self.recalls.items()}
        if unmeasured := [name for name in least if name not in figures]:
            return [f"more items, {FEWEST_FOR_100} at least, to measure {unmeasured[0]}"]
        remedies = [f"codes of more than {certificate['code_bytes']} bytes"]
        if self.max_bytes is not None:
            remedies[0] += f" (max_bytes is {self.max_bytes})"
        kept = certificate.get("with_originals")
        if kept is not None and all(kept[name]["low"] >= recall for name, recall in least.items()):
            reached = " and ".join(f"{name} is {kept[name]['value']:.4f}" for name in least)
            remedies.append(f"keeping originals: rescored by them {reached}")
        if oversample < certificate["most_oversample"] and "cut_from" not in certificate:
            remedies.append(
                f'another "seed", for an oversample of {oversample} was enough on the queries it was tuned on'
            )
        elif kept is None and oversample * max(self.recalls) < WIDEST:
            remedies.append(f"an oversample above {oversample}, the most that CODEWELL_MAX_OVERSAMPLE allows")
        if all(figures[name]["value"] >= recall for name, recall in least.items()):
            more = "queries" if certificate.get("measured_by") == "queries" else "items, of which more are queries"
            remedies.append(f"more {more}, for it is the interval that is too wide")
        return remedies
