"""A training that chooses its codec: from the plan's order, the next where one does not keep the contract."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.auto import Auto
from service.errors import ContractBroken
from service.settings import Settings
from tests.test_contract import filled, ignore, states

POOR, GOOD = ({"kind": "faiss", "factory": name} for name in ("PCA2,PQ1x8", "SQfp16"))


@pytest.mark.parametrize("begun", [0, 1])
def test_the_next_of_the_plan_is_tried_where_one_breaks_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: int
) -> None:
    database, collection = filled(tmp_path, contract=None)
    assert not Auto.is_asked(database, collection.id, {})
    asked: dict[str, Any] = {"codec": {"kind": "auto"}, "contract": {"recall@10": 0.9, "max_bytes": 32}}
    assert Auto.is_asked(database, collection.id, asked)
    settings, scratch = Settings(data_dir=tmp_path, max_oversample=2), tmp_path / "job"
    scratch.mkdir()
    kept = {"order": [POOR, GOOD], "sentences": []}  # as a start of the job that was cut off had left it
    (scratch / "auto.json").write_text(json.dumps({"plan": kept, "attempt": begun}))
    auto = Auto(database, collection.id, asked, scratch, ignore, lambda _: None)
    result = auto.run(settings)
    assert (result["codec"], result["plan"]) == (GOOD, kept)
    assert states(database) == ["refused", "published"][begun:]
    assert result["certificate"]["intervals"]["recall@10"]["low"] >= 0.9

    (scratch / "auto.json").write_text(json.dumps({"plan": {"order": [POOR]}, "attempt": 0}))
    with pytest.raises(ContractBroken, match="nothing was published") as broken:
        auto.run(settings)
    assert broken.value.result["codec"] == POOR
    assert states(database)[-2:] == ["published", "refused"]
    database.close()
