"""Quantization by hand: bitsandbytes' own bits on a CPU, and the bounds its formulas promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lorakit_helpers import quantization as q
from lorakit_helpers.errors import LorakitError

F = pytest.importorskip("bitsandbytes.functional")
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def layers(base):
    from safetensors import safe_open

    with safe_open(f"{base}/model.safetensors", "pt") as file:
        return {k: file.get_tensor(f"model.layers.7.{'mlp' if k[0] in 'gud' else 'self_attn'}.{k}.weight") for k in KINDS}


def assert_same_bits(weights, format, block_size):
    for double in (False, True):
        packed, state = F.quantize_4bit(weights, blocksize=block_size, quant_type=format, compress_statistics=double)
        mine = q.quantize(weights, format, block_size, double)
        assert np.array_equal(mine.packed[: mine.codes.size // 2], packed.numpy().ravel()[: mine.codes.size // 2])
        if double:
            assert np.array_equal(mine.double.codes, state.absmax.numpy())
            assert np.array_equal(mine.double.absmax, state.state2.absmax.numpy())
            assert mine.double.offset == state.offset.numpy()
        else:
            assert np.array_equal(mine.absmax, state.absmax.numpy())
        restored = F.dequantize_4bit(packed, state).reshape(weights.shape)
        assert torch.equal(torch.from_numpy(q.dequantize(mine)).to(weights.dtype), restored)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["nf4", "fp4"])
def test_matches_bitsandbytes_bit_for_bit_on_every_linear_layer_kind(layers, kind, format):
    assert_same_bits(layers[kind], format, 64)
    assert_same_bits(layers[kind].float(), format, 32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("format", ["nf4", "fp4"])
def test_matches_bitsandbytes_bit_for_bit_on_random_tensors(dtype, format):
    weights = torch.randn(48, 256, generator=torch.Generator().manual_seed(1)).to(dtype)
    for block_size in (32, 64, 128, 256):
        assert_same_bits(weights, format, block_size)


@pytest.mark.parametrize("shape", [(37, 34), (5, 7), (1000,), (1,)])
def test_codes_and_constants_match_where_the_last_block_is_partial(shape):
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    packed, state = F.quantize_4bit(weights, quant_type="nf4")
    mine = q.quantize(weights)
    assert np.array_equal(q.quantize(weights).absmax, state.absmax.numpy())
    theirs = np.stack([packed.numpy().ravel() >> 4, packed.numpy().ravel() & 15], 1).ravel()
    assert np.array_equal(mine.codes, theirs[: mine.codes.size])


def test_derived_levels_are_bitsandbytes_constants_to_the_last_bit():
    assert np.array_equal(q.codebook("nf4"), F.get_4bit_type("nf4", "cpu").numpy())
    assert np.array_equal(q.codebook("fp4"), F.get_4bit_type("fp4", "cpu").numpy())
    assert np.array_equal(q._dynamic_map(), F.create_dynamic_map().numpy())


@pytest.mark.parametrize("double", [False, True])
def test_bits_per_parameter_equals_the_bytes_bitsandbytes_keeps(double):
    weights = torch.randn(256, 64 * 64)
    packed, state = F.quantize_4bit(weights, quant_type="nf4", compress_statistics=double)
    theirs = packed.nbytes + state.absmax.nbytes + (state.state2.absmax.nbytes + state.offset.nbytes if double else 0)
    assert q.quantize(weights, double_quant=double).nbytes == theirs
    assert 8 * theirs / weights.numel() == pytest.approx(q.bits_per_parameter(double_quant=double), abs=1e-4)


blocks = arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e3, 1e3, width=32, allow_subnormal=False))


@settings(max_examples=60, deadline=None)
@given(blocks, st.sampled_from(q.CODEBOOKS), st.sampled_from([1, 32, 64]))
def test_error_is_at_most_half_the_widest_gap_and_codes_are_a_fixed_point(weights, format, block_size):
    once = q.quantize(weights, format, block_size)
    restored = q.dequantize(once)
    gap = np.diff(np.sort(q.codebook(format))).max() / 2
    bound = gap * np.repeat(once.absmax, block_size)[: weights.size]
    assert (np.abs(weights - restored) <= bound * (1 + 1e-5) + 1e-30).all()
    assert (restored[weights == 0] == 0).all()
    assert np.array_equal(q.dequantize(q.quantize(restored, format, block_size)), restored)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(q.CODEBOOKS))
def test_smaller_blocks_never_raise_the_error_of_normal_weights_much(seed, format):
    weights = np.random.default_rng(seed).standard_normal(4096)
    errors = [q.rms_error(weights, q.quantize(weights, format, size)) for size in (32, 256, 4096)]
    assert errors[0] < errors[1] * 1.02 and errors[1] < errors[2] * 1.02


@pytest.mark.parametrize("format", q.CODEBOOKS)
@pytest.mark.parametrize("value", [0.0, 3.0, -2.5])
def test_constant_block_comes_back_exactly(format, value):
    weights = np.full(100, value, np.float32)
    assert np.array_equal(q.dequantize(q.quantize(weights, format)), weights)
    assert q.rms_error(weights, q.quantize(weights, format)) == 0


def test_nf4_is_better_than_int4_and_fp4_on_normal_weights():
    weights = np.random.default_rng(0).standard_normal(64 * 500)
    errors = {format: q.rms_error(weights, q.quantize(weights, format)) for format in q.CODEBOOKS}
    assert errors["int8"] < errors["nf4"] < errors["int4"] and errors["nf4"] < errors["fp4"]


@pytest.mark.parametrize("weights", [[np.nan], [np.inf, 1], [], np.zeros((0, 3))])
def test_weights_that_are_not_finite_or_missing_are_refused(weights):
    with pytest.raises(LorakitError, match="weights"):
        q.quantize(weights)


@pytest.mark.parametrize("size", [0, -64, 1.5, "64", True])
def test_bad_block_size_is_refused(size):
    with pytest.raises(LorakitError, match="block_size"):
        q.quantize([1.0], block_size=size)


def test_unknown_format_offers_the_nearest_and_too_large_codes_are_not_packed():
    with pytest.raises(LorakitError, match="Did you mean 'nf4'"):
        q.quantize([1.0], "nf")
    with pytest.raises(LorakitError, match="codes"):
        q.pack(np.array([16]))
