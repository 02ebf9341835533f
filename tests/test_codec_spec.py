"""What JSON says of a codec, as the configuration of its autoencoder."""

import pytest

from models import MOST_STEPS, BadConfig, Metric, ResidualConfig
from service.codec_spec import codec_spec


def test_the_beam_of_a_residual_codec_is_its_own_and_half_of_it_refits() -> None:
    for given, beams in ({}, (64, 32)), ({"beam": 9}, (9, 5)):
        config = codec_spec({"kind": "residual", "bytes": 4} | given).config(8, Metric.L2)
        assert isinstance(config, ResidualConfig)
        assert (config.steps, config.beam, config.refit_beam) == (4, *beams)


def test_a_residual_code_has_no_more_bytes_than_tables_are_made_for() -> None:
    codec_spec({"kind": "residual", "bytes": MOST_STEPS}).config(8, Metric.L2)
    with pytest.raises(BadConfig, match=r"bytes.*less than or equal to 64"):
        codec_spec({"kind": "residual", "bytes": MOST_STEPS + 1})
