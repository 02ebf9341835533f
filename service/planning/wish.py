"""What a plan is asked for: a contract, budgets, and how much may be looked at. Knows no codec and no measurement."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.compare.vectors import FEWEST
from service.contract import ContractSpec

USUAL = ContractSpec.model_validate({"recall@10": 0.95})
"""Where nothing is asked for."""
SAMPLE, MOST_SAMPLE = 20_000, 100_000
MINUTES, MOST_MINUTES = 5.0, 1_440.0
OVERSAMPLE = 20
"""Highest oversample where nobody says so: fewer bytes at the price of more originals are no bargain."""

Kind = Literal["dense", "binary", "residual", "faiss"]
"""Kinds that are tried."""


class BudgetSpec(BaseModel):
    """What a code may cost, each at most."""

    model_config = ConfigDict(extra="forbid")

    total_bytes: float | None = Field(None, gt=0, description="Bytes a vector in RAM, with row ids, tables and codec")
    ram_mb: float | None = Field(None, gt=0, description="RAM of all items' codes, in megabytes of a million bytes")
    latency_ms: float | None = Field(None, gt=0, description="Median of a search for ten hits at the planned size")


class PlanSpec(BaseModel):
    """What to plan for; without a contract and budgets, a recall@10 of 0.95."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"contract": {"recall@10": 0.95, "max_bytes": 32}, "items": 1_000_000}]},
    )

    contract: ContractSpec | None = Field(None, description="Without one, the collection's own")
    budgets: BudgetSpec | None = None
    items: int | None = Field(None, ge=1, description="Size that tables and codec are shared by; the collection's own")
    oversample: int | None = Field(
        None, ge=1, description=f"Highest that a search may need, {OVERSAMPLE} where not given"
    )
    rescore: bool | None = Field(
        None, description="Whether searches read originals; as the collection keeps them where not given"
    )
    kinds: Annotated[list[Kind], Field(min_length=1)] = ["dense", "binary", "residual", "faiss"]
    sample: int | None = Field(
        None, ge=FEWEST, le=MOST_SAMPLE, description="Vectors looked at; CODEWELL_PLAN_SAMPLE where not given"
    )
    minutes: float | None = Field(
        None, gt=0, le=MOST_MINUTES, description="Of training in all; CODEWELL_PLAN_MINUTES where not given"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1)

    @property
    def recalls(self) -> dict[int, float]:
        """The least recall, by k; none where only costs are bounded, so that the most recall is wanted."""
        if self.contract is None and self.budgets is None:
            return USUAL.recalls
        return {} if self.contract is None else self.contract.recalls

    @property
    def max_bytes(self) -> int | None:
        """Of a code."""
        return None if self.contract is None else self.contract.max_bytes

    @property
    def most_oversample(self) -> int:
        """The highest that may be tuned to."""
        return self.oversample or OVERSAMPLE

    def stored(self) -> dict[str, Any]:
        """As JSON that `model_validate` takes."""
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)
