"""The metric from the answers' rows of the unembedding equals the one from all logits, forward and
back; the library waits without spinning."""

import math
import os
import subprocess
import sys

import pytest
import torch
from closeness import assert_close
from toys import toy_model, toy_pairs

from circuitbook.circuits.batches import metric_of_normed, metric_of_stream
from circuitbook.model import log_total as module
from circuitbook.model.architectures import network_of
from circuitbook.model.log_total import log_total
from circuitbook.paths import PACKAGE
from circuitbook.tasks.metrics import of_answers
from circuitbook.threads import waiting_policy


@pytest.mark.parametrize("metric", ["logit_difference", "probability_difference"])
@pytest.mark.parametrize("architecture", ["gpt_neox", "llama", "gemma2"])
def test_answer_rows_equal_all_logits(metric, architecture, tmp_path, monkeypatch):
    _, model = toy_model(tmp_path, architecture=architecture)
    network, pairs = network_of(model), toy_pairs(metric)
    last = torch.randn(4, 3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    normed = network.norm_final(last).requires_grad_()
    logits = normed @ network.w_unembed.t()
    if architecture == "gemma2":
        assert logits.abs().max() > 6
        logits = 6 * torch.tanh(logits / 6)
    literal = torch.stack([pairs.metric(logits[:, version]) for version in range(3)], 1)
    (slope,) = torch.autograd.grad(literal.square().sum(), normed)
    assert literal.abs().max() > 0.01 and slope.abs().max() > 0.01
    for logit_bytes in (1, 8 * 12 * 5, 1 << 20):  # one token at a time, five, all
        monkeypatch.setattr(module, "LOGIT_BYTES", logit_bytes)
        got = metric_of_normed(network, pairs, normed)
        assert_close(got, literal, rounds=10)
        assert_close(torch.autograd.grad(got.square().sum(), normed)[0], slope, rounds=100)
    assert_close(metric_of_stream(network, pairs, last), literal, rounds=10)
    with pytest.raises(ValueError, match="no metric 'rank' .* logit_difference, prob"):
        of_answers("rank", logits[:, 0, :4], pairs.signs, lambda: logits[:, 0, 0])


def test_parts_of_the_vocabulary_add_up_to_the_softmax():
    generator = torch.Generator().manual_seed(0)
    normed, w = (torch.randn(n, 6, dtype=torch.float64, generator=generator) for n in (5, 31))
    normed = (30 * normed).requires_grad_()  # exp of these logits is beyond any dtype
    (slope,) = torch.autograd.grad((normed @ w.t()).logsumexp(1).square().sum(), normed)
    for logit_bytes in (1, 8 * 5 * 7, 1 << 20):
        got = log_total(normed, w, logit_bytes)
        assert_close(got, (normed @ w.t()).logsumexp(1), rounds=10)
        assert_close(torch.autograd.grad(got.square().sum(), normed)[0], slope, rounds=100)
    half = log_total(normed.detach().bfloat16(), w.bfloat16())
    assert half.dtype == torch.float32
    assert_close(half, (normed @ w.t()).logsumexp(1), rounds=100, dtype=torch.bfloat16)


@pytest.mark.parametrize("rows", [1, 2, 16])
def test_rare_tokens_of_a_large_vocabulary_are_not_lost(rows):
    """200,000 tokens have 1e-8 each: less than a rounding of the sum beside the likely token, and
    2e-3 together."""
    n, likely = 200_000, 1e8
    w = torch.randn(n, 16, generator=torch.Generator().manual_seed(0))
    w[:, 0] = 1.0  # so that the gradient along this axis is the sum of all probabilities
    w[:, 1] = 0.0
    w[0, 1] = math.log(likely)
    normed = torch.zeros(rows, 16)
    normed[:, 1] = 1.0
    slopes = []
    for dtype in (torch.float32, torch.float64):
        x = normed.to(dtype).requires_grad_()
        slopes.append(torch.autograd.grad(log_total(x, w.to(dtype)).sum(), x)[0])
    assert slopes[1][:, 0].tolist() == pytest.approx([1.0] * rows)
    rare = (n - 1) / (likely + n - 1)
    assert_close(slopes[0][:, 0], slopes[1][:, 0], rounds=300)
    assert 300 * torch.finfo(torch.float32).eps < rare / 10  # they would be seen to be missing


@pytest.mark.parametrize(
    "before, expected",
    [("", "PASSIVE"), ("import torch, ", None), ("GOMP_SPINCOUNT", None), ("ACTIVE", "ACTIVE")],
)
def test_threads_wait_without_spinning_unless_told_otherwise(before, expected):
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY",)}
    environment |= {"GOMP_SPINCOUNT": "10"} if before == "GOMP_SPINCOUNT" else {}
    environment |= {"OMP_WAIT_POLICY": "ACTIVE"} if before == "ACTIVE" else {}
    first = before if before.startswith("import") else "import "
    code = f"{first} circuitbook; import os, torch; print(os.environ.get('OMP_WAIT_POLICY'))"
    path = os.pathsep.join([str(PACKAGE.parent), environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(expected)


def test_the_users_policy_stays():
    assert waiting_policy({"PATH": ""}) == {"OMP_WAIT_POLICY": "PASSIVE"}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        assert waiting_policy({name: ""}) == {}
