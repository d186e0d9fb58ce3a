"""Dictionaries as modules: gradients against dense oracles, the sphere of the decoder, dead features, selection."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from cerebridge.models.decompose.codes import (
    Jump,
    Step,
    decode_largest,
    encode_largest,
    geometric_median,
    largest,
)
from cerebridge.models.decompose.dictionaries import JumpReLU, ReLU, TopK, resample
from cerebridge.models.training import train


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(x, weight, bias, decoder, k):
    """The same by full matrices."""
    z = x @ weight.T + bias
    mask = torch.zeros_like(z).scatter_(1, z.topk(k, dim=1).indices, 1.0)
    return (z * mask).relu() @ decoder


@pytest.mark.parametrize("k", [1, 3, 12])
def test_sparse_gradients_are_the_dense_ones(k):
    inputs = [drawn(7, 5), drawn(12, 5, seed=1), drawn(12, seed=2) - 0.5, drawn(12, 5, seed=3)]
    target = drawn(7, 5, seed=4)
    gradients = []
    for sparse in (True, False):
        x, weight, bias, decoder = (tensor.clone().requires_grad_() for tensor in inputs)
        if sparse:
            ours = decode_largest(*encode_largest(x, weight, bias, k), decoder)
        else:
            ours = dense(x, weight, bias, decoder, k)
        (ours - target).square().sum().backward()
        gradients.append([ours.detach(), *(tensor.grad for tensor in (x, weight, bias, decoder))])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_gradient_picks_what_moves_the_loss():
    z, gradients = torch.tensor([[3.0, 0.3, 2.0]]), torch.tensor([[0.01, 50.0, 0.02]])
    for mixture in ("product", "sum"):
        module = TopK(torch.eye(3), torch.zeros(3), k=1, by_gradient=mixture)
        assert module.encode(z).tolist() == [[3.0, 0.0, 0.0]]
        chosen = module.encode(z, gradients)
        assert chosen.nonzero().tolist() == [[0, 1]] and float(chosen[0, 1].detach()) == pytest.approx(0.3)
    plain = TopK(torch.eye(3), torch.zeros(3), k=1)
    assert plain.encode(z, gradients).tolist() == [[3.0, 0.0, 0.0]]
    # in the sum a large pre-activation wins against a small effect
    mixed = TopK(torch.eye(3), torch.zeros(3), k=1, by_gradient="sum", beta=0.1)
    assert mixed.encode(z, torch.tensor([[0.0, 5.0, 0.0]])).nonzero().tolist() == [[0, 0]]
    assert largest(z, 1, torch.tensor([[0.0, 5.0, 0.0]])).item() == 1


def test_straight_through_estimators_are_those_of_the_paper():
    z = torch.tensor([[0.40, 0.52, 0.90]], dtype=torch.float64, requires_grad=True)
    threshold = torch.tensor([0.5, 0.5, 0.5], dtype=torch.float64, requires_grad=True)
    Jump.apply(z, threshold, 0.1).sum().backward()
    assert z.grad.tolist() == [[0.0, 1.0, 1.0]]
    assert threshold.grad.tolist() == pytest.approx([0.0, -5.0, 0.0])
    z.grad = threshold.grad = None
    Step.apply(z, threshold, 0.1).sum().backward()
    assert z.grad is None and threshold.grad.tolist() == pytest.approx([0.0, -10.0, 0.0])


def test_the_estimated_slope_is_that_of_the_expected_loss():
    # many samples around the threshold: the mean of a step function is smooth, and has a slope of its own
    z = drawn(400_000, 1) * 0.5 + 0.4
    values = []
    for shift in (-0.05, 0.05):
        values.append(float((z > 0.5 + shift).double().mean()))
    threshold = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    Step.apply(z, threshold, 0.1).mean().backward()
    assert float(threshold.grad) == pytest.approx((values[1] - values[0]) / 0.1, rel=1e-6)


def test_the_decoder_stays_on_the_sphere_and_moves_along_it():
    module = TopK(drawn(8, 4).float(), torch.zeros(4), k=2)
    module.loss(module, {"x": drawn(16, 4, seed=1).float()}).backward()
    assert (module.decoder.grad * module.decoder).sum(1).abs().max() < 1e-5
    assert module.decoder.grad.abs().max() > 1e-3
    train(
        module,
        module.loss,
        {"x": drawn(64, 4, seed=1)},
        optimizer=module.make_optimizer(0.1, (0.9, 0.999)),
        max_epochs=3,
    )
    torch.testing.assert_close(module.decoder.norm(dim=1), torch.ones(8))


def test_silence_is_counted_in_samples_of_training_alone():
    module = TopK(torch.eye(4), torch.zeros(4), k=1).train()
    x = torch.zeros(5, 4)
    x[:, 2] = 1
    for _ in range(2):
        module.loss(module, {"x": x})
    module.eval()
    module.loss(module, {"x": x})
    assert module.silent.tolist() == [10, 10, 0, 10] and int(module.step) == 2


def test_only_dead_features_have_gradients_of_the_auxiliary_loss():
    module = TopK(drawn(6, 4).float(), torch.zeros(4), k=1, auxiliary=0.5, n_auxiliary=2, dead_after=100)
    x = drawn(32, 4, seed=1).float()
    without = module.objective(x, None)[0]
    module.silent[[1, 4]] = 101
    module.silent[2] = 100
    total = module.objective(x, None)[0]
    assert total > without
    dead = torch.autograd.grad(total - without, module.encoder)[0].abs().sum(1)
    assert dead[[1, 4]].min() > 0 and dead[[0, 2, 3, 5]].max() < 1e-5


def test_resampling_points_at_what_is_badly_reconstructed():
    module = ReLU(drawn(6, 4).float(), torch.zeros(4), sparsity=0.1)
    optimizer = module.make_optimizer(1e-2, (0.9, 0.999))(module)
    x = drawn(50, 4, seed=2).float()
    module.loss(module, {"x": x}).backward()
    optimizer.step()
    kept = module.decoder.detach().clone()
    errors = torch.zeros(50)
    errors[17] = 3.0
    resample(module, optimizer, torch.tensor([1, 4]), x, errors)
    direction = torch.nn.functional.normalize(x[17] - module.bias.detach(), dim=0)
    torch.testing.assert_close(module.decoder.detach()[[1, 4]], direction.expand(2, 4))
    torch.testing.assert_close(module.decoder.detach()[[0, 2, 3, 5]], kept[[0, 2, 3, 5]])
    moments = optimizer.state[module.encoder]["exp_avg"]
    assert (moments[[1, 4]] == 0).all() and (moments[[0, 2]] != 0).any()


@pytest.mark.parametrize("every", [None, 20])
def test_dead_features_live_again_if_they_are_resampled(every):
    module = ReLU(drawn(8, 4).float(), torch.zeros(4), sparsity=0.01, resample_every=every)
    with torch.no_grad():
        module.encoder_bias[:4] = -100
    x = drawn(128, 4, seed=1).float()
    train(
        module,
        module.loss,
        {"x": x},
        optimizer=module.make_optimizer(1e-3, (0.9, 0.999)),
        batch_size=32,
        max_epochs=12,
    )
    alive = (module.encode(x) > 0).any(0)
    assert alive[4:].all() and bool(alive[:4].all()) == (every is not None)


@pytest.mark.parametrize("kind", ["topk", "relu", "jumprelu"])
def test_a_scale_is_only_a_unit(kind):
    decoder, bias, x = drawn(9, 4).float(), drawn(4, seed=1).float(), drawn(20, 4, seed=2).float()
    module = {
        "topk": lambda: TopK(decoder, bias, 3.0, k=2),
        "relu": lambda: ReLU(decoder, bias, 3.0, sparsity=0.1),
        "jumprelu": lambda: JumpReLU(decoder, bias, 3.0, sparsity=0.1, threshold=0.2, bandwidth=0.1),
    }[kind]()
    torch.nn.init.normal_(module.encoder_bias, generator=torch.Generator().manual_seed(0))
    codes = 3 * module.encode(x / 3)
    module.rescale()
    torch.testing.assert_close(module.encode(x), codes)
    torch.testing.assert_close(module.bias.detach(), bias)


def test_the_geometric_median_is_the_nearest_point_to_all():
    x = drawn(60, 3).numpy()
    x[:10] += 50
    nearest = minimize(lambda point: np.linalg.norm(x - point, axis=1).sum(), x.mean(0), method="BFGS").x
    np.testing.assert_allclose(geometric_median(torch.from_numpy(x)), nearest, atol=1e-3)
    # a sample may be the median itself
    assert geometric_median(torch.tensor([[0.0], [0.0], [0.0], [9.0]])).item() == pytest.approx(0, abs=1e-3)
