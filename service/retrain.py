"""When a collection's codec is to be trained again without anybody asking. Knows no SQL and no HTTP."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.drift import Drift, Freshness
from service.errors import OriginalsDropped
from service.originals import Originals

LEVELS = tuple(Freshness)
"""From the best to the worst."""


class RetrainSpec(BaseModel):
    """A collection's policy: how far its newest items must have drifted, and how often it may train."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"when": "stale", "at_most_every_hours": 24}]}
    )

    when: Literal[Freshness.DRIFTING, Freshness.STALE] = Field(
        description="Status of `drift` from which on it trains; drifting means stale as well"
    )
    at_most_every_hours: float = Field(
        24, gt=0, le=8_760, description="Between two beginnings by this policy, whatever became of the first"
    )

    def stored(self) -> dict[str, Any]:
        """As JSON that `model_validate` takes."""
        return self.model_dump(mode="json")

    def is_met(self, drift: Drift) -> bool:
        """Whether the items have drifted so far."""
        return LEVELS.index(drift.status) >= LEVELS.index(self.when)

    @staticmethod
    def check(originals: Originals) -> None:
        """Raises OriginalsDropped where nothing could be trained again."""
        if originals is Originals.DROP:
            raise OriginalsDropped(
                "without the vectors drift is not known and nothing is trained again; keep them as float16 or float32 "
                "in a new collection",
                field="retrain",
            )
