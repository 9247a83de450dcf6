"""The tests' own comparison: rounding passes, in every dtype and form; anything more fails."""

import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_another_order_of_a_sum_is_close_and_a_hundred_roundings_are_not(dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, generator=generator, dtype=torch.float64).to(dtype)
    one, other = (sum(part) for part in (x, x.sort().values))
    assert one != other
    assert_close(one, other, rounds=10, size=x.abs().sum())
    total, rounding = x.double().sum(), torch.finfo(dtype).eps * 8
    assert_close(total + 90 * rounding, total, rounds=100, dtype=dtype, size=8)
    with pytest.raises(AssertionError, match=r"1[012]\d roundings; 100 roundings of"):
        assert_close(total + 110 * rounding, total, rounds=100, dtype=dtype, size=8)


def test_the_size_is_that_of_the_largest_value_unless_it_is_given():
    want = torch.tensor([1000.0, 1.0])
    got = want + torch.tensor([0.0, 1e-4])  # 1 rounding of 1000, 840 of 1
    assert_close(got, want, rounds=2)
    with pytest.raises(AssertionError, match=r"at \(1,\)"):
        assert_close(got, want, rounds=2, size=1)


def test_a_number_has_the_dtype_that_it_was_computed_in():
    third = float(torch.tensor(1.0) / 3)
    assert_close(third, 1 / 3, rounds=1, dtype=torch.float32)
    assert_close(torch.tensor(third), 1 / 3, rounds=1)
    assert_close(pd.Series([third], dtype="float32"), np.array([1 / 3]), rounds=1)
    with pytest.raises(AssertionError, match="is not 0.333"):
        assert_close(third, 1 / 3, rounds=100)


def test_what_is_not_finite_and_what_is_whole_must_be_the_same():
    some = np.array([np.nan, np.inf, 1.0])
    assert_close(some, some.copy(), rounds=1)
    for spoilt in ([0.0, np.inf, 1.0], [np.nan, -np.inf, 1.0], [np.nan, np.inf, np.nan]):
        with pytest.raises(AssertionError):
            assert_close(np.array(spoilt), some, rounds=1e9)
    assert_close(torch.tensor([3, 4]), [3, 4], rounds=1)
    with pytest.raises(AssertionError, match="neither is rounded"):
        assert_close(torch.tensor([3, 4]), [3, 5], rounds=1e9)
    with pytest.raises(AssertionError, match="shapes"):
        assert_close(np.zeros(2), np.zeros(3), rounds=1)
