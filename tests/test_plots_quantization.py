"""The picture of quantized weights shows their levels and says the same in words."""

import numpy as np
import pytest

from lorakit_helpers.plots.quantization import describe_quantized, plot_quantized
from lorakit_helpers.quantization import CODEBOOKS, codebook, quantize

WEIGHTS = np.random.default_rng(0).standard_normal(640)


@pytest.mark.parametrize("format", CODEBOOKS)
def test_histogram_holds_every_weight_and_levels_stand_where_the_codebook_says(format):
    ax = plot_quantized(WEIGHTS, quantize(WEIGHTS, format))
    assert ax.patches[0].get_data().values.sum() == pytest.approx(100)
    drawn = [segment[0][0] for lines in ax.collections for segment in lines.get_segments()]
    assert drawn == ([] if format == "int8" else pytest.approx(np.unique(codebook(format))))
    assert "%" in ax.get_ylabel() and "unit" in ax.get_xlabel()


def test_sentence_carries_error_and_bits():
    done = quantize(WEIGHTS, "nf4", 64)
    assert f"{done.bits_per_parameter:.3f} bits per parameter" in describe_quantized(WEIGHTS, done)
