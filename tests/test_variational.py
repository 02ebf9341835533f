"""The variational autoencoder: its bound, its draws, and its mean as a code."""

from collections.abc import Callable
from dataclasses import asdict
from json import dumps, loads

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from models import (
    BadConfig,
    DenseAutoencoder,
    DenseConfig,
    LatentType,
    LearnedCodec,
    Metric,
    TrainingConfig,
    Vectors,
    exact_neighbours,
    prepared,
    recall,
    train,
)
from models.configs import VariationalConfig
from models.corruption import Corruption, CorruptionKind
from models.saving import loaded
from models.variational import VariationalAutoencoder, kl
from tests.conftest import clustered

DIM = 12


def config(**others: object) -> VariationalConfig:
    given = {"latents": 6, "latent_type": LatentType.FLOAT16, "decoder_hidden": (16,)} | others
    return VariationalConfig(**given)  # type: ignore[arg-type]


def started(shape: VariationalConfig, vectors: Vectors) -> VariationalAutoencoder:
    model = VariationalAutoencoder(vectors.shape[1], shape)
    with torch.no_grad():
        model.start(torch.from_numpy(vectors), torch.Generator().manual_seed(0))
        model.settle(torch.from_numpy(vectors))
    return model


def trained(shape: VariationalConfig, vectors: Vectors, epochs: int = 8) -> VariationalAutoencoder:
    model = VariationalAutoencoder(vectors.shape[1], shape)
    train(model, vectors, TrainingConfig(epochs=epochs, patience=epochs))
    return model


def normal(n: int = 4000) -> Vectors:
    """Gaussian vectors with three strong directions of unequal strength, a little noise and a mean."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(np.random.default_rng(1).standard_normal((DIM, 3)))[0] * [3.0, 2.0, 1.0]
    vectors = rng.standard_normal((n, 3)) @ directions.T + 0.1 * rng.standard_normal((n, DIM)) + 5
    return np.asarray(vectors, np.float32)


def divergence(model: VariationalAutoencoder, vectors: Vectors) -> float:
    with torch.inference_mode():
        return float(model.elbo(torch.from_numpy(vectors), torch.Generator().manual_seed(1)).kl)


def test_kl_is_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = (torch.randn(50, 7, generator=generator) for _ in range(2))
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(kl(mean, log_variance), expected)
    assert kl(torch.zeros(1, 7), torch.zeros(1, 7)).item() == 0


def test_the_loss_is_minus_the_elbo_but_for_a_constant() -> None:
    vectors = torch.from_numpy(clustered(300, DIM))
    model = started(config(noise=0.5), clustered(300, DIM))
    with torch.inference_mode():
        loss = model.loss(vectors, torch.Generator().manual_seed(4))
        mean, log_variance = model.posterior(vectors)
        prior, q = Normal(0.0, 1.0), Normal(mean, (log_variance / 2).exp())
        z = mean + q.scale * torch.randn(mean.shape, generator=torch.Generator().manual_seed(4))
        x_given_z = Normal(model.decoder(z), 0.5)
        fit = x_given_z.log_prob(model.standardized(vectors)).sum(dim=1)  # type: ignore[no-untyped-call]
        bound = (fit - kl_divergence(q, prior).sum(dim=1)).mean()
    constant = -DIM * np.log(0.5 * np.sqrt(2 * np.pi))
    assert loss.item() == pytest.approx(-(bound.item() - constant) / DIM, rel=1e-4)


def test_the_start_is_the_optimum_of_the_linear_one() -> None:
    shape, vectors = config(decoder_hidden=()), normal()
    model = started(shape, vectors)
    x = torch.from_numpy(vectors)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    # The mean gradient over many draws of z: nothing is left of it but the noise of drawing.
    generator = torch.Generator().manual_seed(0)
    loss = torch.stack([model.loss(x, generator) for _ in range(20)]).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    largest = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
    assert largest < 0.02
    with torch.no_grad():
        model.decoder.weight.mul_(1.5)
    model.zero_grad()
    model.loss(x, generator).backward()  # type: ignore[no-untyped-call]
    worse = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
    assert worse > 10 * largest


def test_means_and_posteriors_together_fit_the_prior() -> None:
    vectors = normal()
    model = started(config(latents=3), vectors)
    with torch.inference_mode():
        mean, log_variance = model.posterior(torch.from_numpy(vectors))
    aggregate = mean.var(dim=0) + log_variance.exp().mean(dim=0)
    torch.testing.assert_close(aggregate, torch.ones(3), rtol=0.02, atol=0)
    torch.testing.assert_close(mean.mean(dim=0), torch.zeros(3), rtol=0, atol=0.02)


@pytest.mark.parametrize("epochs", [0, 5])
def test_samples_have_the_mean_and_covariance_of_the_data(epochs: int) -> None:
    vectors = normal()
    shape = config(latents=4, decoder_hidden=(32,))
    model = trained(shape, vectors, epochs) if epochs else started(shape, vectors)
    with torch.inference_mode():
        drawn = model.sample(8000, torch.Generator().manual_seed(2)).numpy()
    assert drawn.shape == (8000, DIM)
    spread = vectors.std()
    assert np.abs(drawn.mean(axis=0) - vectors.mean(axis=0)).max() < 0.1 * spread
    real, made = np.cov(vectors.T), np.cov(drawn.T)
    assert np.linalg.norm(made - real) < 0.1 * np.linalg.norm(real)


def test_draws_of_what_is_not_a_blob_lie_where_the_data_lies() -> None:
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 4000)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    model = VariationalAutoencoder(2, config(latents=2, hidden=(32,), decoder_hidden=(64, 64), noise=0.1))
    train(model, ring, TrainingConfig(epochs=25, patience=25))
    with torch.inference_mode():
        drawn = model.sample(2000, torch.Generator().manual_seed(3)).numpy()
    # A Gaussian of the ring's mean and covariance has a median distance of 0.35 from it.
    assert np.median(np.abs(np.linalg.norm(drawn, axis=1) - 1)) < 0.15


def test_without_the_kl_term_it_is_the_plain_autoencoder() -> None:
    vectors = clustered(1500, DIM)
    plain = DenseAutoencoder(DIM, DenseConfig(4, LatentType.FLOAT16, (), (16,), Corruption(CorruptionKind.NONE)))
    run = train(plain, vectors, TrainingConfig(epochs=25))
    model = VariationalAutoencoder(DIM, config(latents=4, beta=0.0))
    own = train(model, vectors, TrainingConfig(epochs=25))
    assert own.epochs[0].held_out_error == pytest.approx(run.epochs[0].held_out_error, rel=0.01)
    assert own.best.held_out_error < 0.85 * own.epochs[0].held_out_error
    assert own.best.held_out_error == pytest.approx(run.best.held_out_error, rel=0.15)


@pytest.mark.parametrize("train_it", [False, True], ids=["started", "trained"])
def test_more_beta_leaves_less_in_the_latents(train_it: bool) -> None:
    vectors = clustered(1500, DIM)
    make: Callable[..., VariationalAutoencoder] = trained if train_it else started
    amounts = [divergence(make(config(beta=beta, noise=0.3), vectors), vectors) for beta in (0.1, 1.0, 10.0, 1000.0)]
    assert amounts == sorted(amounts, reverse=True)
    assert amounts[1] > 3
    assert amounts[-1] < 0.05


def test_a_collapsed_codec_still_decodes_to_the_mean() -> None:
    vectors = clustered(800, DIM)
    codec = LearnedCodec(started(config(beta=1e6), vectors), Metric.L2)
    decoded = codec.decode(codec.encode(vectors))
    assert np.abs(decoded - vectors.mean(axis=0)).max() < 0.05 * vectors.std()


@pytest.mark.parametrize("latent_type", list(LatentType))
@pytest.mark.parametrize("metric", list(Metric))
def test_the_mean_as_code_keeps_neighbours(metric: Metric, latent_type: LatentType) -> None:
    base, queries = prepared(clustered(1500, DIM), metric), prepared(clustered(40, DIM, 1), metric)
    codec = LearnedCodec(trained(config(latents=8, latent_type=latent_type), base, 3), metric)
    assert codec.code_bytes == (8 * latent_type.bits + 7) // 8
    codes = codec.encode(base)
    truth = exact_neighbours(base, queries, 10, metric).rows
    assert recall(exact_neighbours(codec.decode(codes), queries, 10, metric).rows, truth).mean() > 0.7
    # The shortlist of an index compares the latents themselves.
    space = Metric.IP if metric is Metric.IP else Metric.L2
    listed = exact_neighbours(codec.stored_latents(codes), codec.points(queries), 50, space).rows
    assert recall(listed, truth).mean() > 0.85


def test_distances_between_codes_are_those_between_vectors() -> None:
    vectors = normal(1000)
    model = started(config(latents=4), vectors)
    with torch.inference_mode():
        codes: Vectors = model.encode(torch.from_numpy(vectors)).numpy() * np.float32(model.scale)
    between, coded = (np.square(x[:500] - x[500:]).sum(axis=1) for x in (vectors, codes))
    assert np.corrcoef(between, coded)[0, 1] > 0.999
    assert np.median(coded / between) == pytest.approx(1, abs=0.05)


def test_a_code_does_not_depend_on_its_batch_and_survives_saving() -> None:
    vectors = clustered(300, DIM, 5)
    codec = LearnedCodec(trained(config(hidden=(16,), latent_type=LatentType.INT8), vectors, 2), Metric.COSINE)
    together = codec.encode(vectors)
    assert np.array_equal(together, np.concatenate([codec.encode(vectors[i : i + 1]) for i in range(len(vectors))]))
    about, tensors = loaded(codec.to_bytes())
    again = LearnedCodec.restored(
        VariationalAutoencoder(DIM, VariationalConfig.from_dict(about["config"])), Metric.COSINE, tensors
    )
    assert np.array_equal(again.encode(vectors), together)
    assert np.array_equal(again.decode(together), codec.decode(together))
    assert again.fingerprint == codec.fingerprint
    assert about["kind"] == "variational"


def test_the_same_seed_gives_the_same_bytes_and_touches_nothing_global() -> None:
    vectors = clustered(400, DIM)
    state = torch.get_rng_state()
    made: list[bytes] = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed + len(made))
        model = VariationalAutoencoder(DIM, config())
        before = torch.get_rng_state()
        train(model, vectors, TrainingConfig(epochs=2, seed=seed))
        drawn = model.sample(3, torch.Generator().manual_seed(9))
        assert torch.equal(torch.get_rng_state(), before)
        made.append(LearnedCodec(model, Metric.L2).to_bytes() + drawn.detach().numpy().tobytes())
    torch.set_rng_state(state)
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize(
    "vectors",
    [np.ones((50, DIM), np.float32), np.repeat(clustered(1, DIM), 60, axis=0), clustered(20, DIM)],
    ids=["constant", "duplicates", "few"],
)
@pytest.mark.parametrize("latents", [4, 16])
def test_degenerate_vectors_train_to_something_finite(vectors: Vectors, latents: int) -> None:
    codec = LearnedCodec(trained(config(latents=latents), vectors, 2), Metric.L2)
    assert np.isfinite(codec.decode(codec.encode(vectors))).all()


@pytest.mark.parametrize("shape", [config(), config(beta=4.0, noise=0.2, hidden=(9,), latent_type=LatentType.INT4)])
def test_a_configuration_survives_json(shape: VariationalConfig) -> None:
    assert VariationalConfig.from_dict(loads(dumps(asdict(shape)))) == shape


@pytest.mark.parametrize(
    ("field", "value"), [("beta", -1.0), ("beta", float("nan")), ("noise", 0.0), ("noise", 1e9), ("latents", 0)]
)
def test_a_bad_setting_is_named(field: str, value: float) -> None:
    with pytest.raises(BadConfig, match=field):
        config(**{field: value})
