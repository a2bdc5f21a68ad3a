"""Which model on which card: each cell is the first method that fits, with the memory model's own published error as margin."""

import re

import pytest
from matplotlib.figure import Figure

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.memory import GPUS, TrainSetup, estimate, find_model, fits
from lorakit_helpers.memory.published import published
from lorakit_helpers.plots.figures import png_bytes
from lorakit_helpers.plots.scale import describe_cost, describe_matrix, plot_cost, plot_matrix
from lorakit_helpers.scale.claim import check_c16
from lorakit_helpers.scale.cost import throughput_of
from lorakit_helpers.scale.matrix import CARDS, METHODS, MODELS, card_gib, model_matrix, trust_interval


@pytest.fixture(scope="module")
def matrix():
    return model_matrix()


def test_trust_is_the_whole_range_of_measured_over_predicted():
    ratios = [row.reported_gib / estimate(row.shape, row.setup).total_gib for row in published() if row.matched]
    low, high, rows = trust_interval()
    assert (low, high, rows) == (pytest.approx(min(ratios)), pytest.approx(max(ratios)), len(ratios)) and low < 1 < high


def test_a_sure_cell_is_the_first_method_that_fits_with_the_margin(matrix):
    for (model, card), cell in matrix.cells.items():
        shape, high = find_model(model).shape, matrix.trust[1]
        for method in METHODS:
            found = estimate(shape, matrix.setup.but(method=method))
            with_margin = found.needed_gib + (high - 1) * found.total_gib * 1.05  # slack grows with the peak
            if with_margin <= card_gib(card):
                assert (cell.method, cell.change, cell.sure) == (method, "", True)
                break
        else:
            assert cell.change or not cell.sure or not cell.method, (model, card)


def test_an_unsure_cell_fits_by_the_estimate_and_not_with_the_margin(matrix):
    unsure = [cell for cell in matrix.cells.values() if not cell.sure]
    assert unsure
    for cell in unsure:
        assert cell.needed_gib[1] <= cell.card_gib < cell.needed_gib[2]
        if not cell.change:
            assert fits(find_model(cell.model).shape, matrix.setup.but(method=cell.method), cell.card_gib)


def test_an_empty_cell_does_not_fit_even_with_shorter_sequences_and_a_small_rank(matrix):
    last = matrix.setup.but(method="qlora", seq_len=matrix.setup.seq_len // 2, r=8)
    for cell in matrix.cells.values():
        if not cell.method:
            assert not fits(find_model(cell.model).shape, last, cell.card_gib), cell


def test_a_larger_card_never_needs_to_give_up_more(matrix):
    for model in matrix.models:
        row = [matrix.cells[model, card] for card in matrix.cards]
        ranks = [METHODS.index(cell.method) if cell.method else len(METHODS) for cell in row]
        assert ranks == sorted(ranks, reverse=True), model


def test_cards_are_reckoned_with_the_least_memory_a_listed_one_has():
    for size in CARDS:
        assert card_gib(size) == min(gpu.memory_gib for gpu in GPUS.values() if gpu.sold_as_gb == size) < size


def test_markdown_is_a_table_with_every_cell_and_what_it_rests_on(matrix):
    lines = matrix.markdown().splitlines()
    table = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    assert {len(row) for row in table} == {len(CARDS) + 1} and len(table) == len(MODELS) + 2
    for row in table[2:]:
        assert [text.strip() for text in row[1:]] == [matrix.cells[row[0].strip(), card].text for card in CARDS]
    note = lines[-1]
    assert f"{matrix.rows} published peaks" in note and "Estimated" in note and f"{matrix.trust[1]:.2f}" in note


def test_a_longer_batch_moves_cells_down():
    long = TrainSetup(micro_batch=8, seq_len=4096, gradient_checkpointing=True, fused_loss=True, optimizer="adamw_8bit")
    more = model_matrix(("Llama-3.1-8B",), (24,), setup=long).cells["Llama-3.1-8B", 24]
    less = model_matrix(("Llama-3.1-8B",), (24,)).cells["Llama-3.1-8B", 24]
    assert METHODS.index(more.method) > METHODS.index(less.method)


def test_the_note_says_the_setup_that_was_asked_for():
    note = model_matrix(("Llama-3.1-8B",), (24,), setup=TrainSetup(seq_len=512, r=8)).markdown()
    assert "1 × 512 tokens, rank 8, optimizer adamw." in note and "checkpointing" not in note


@pytest.mark.parametrize(
    ("models", "cards"), [(("Lama-3.1-8B",), (24,)), (("Llama-3.1-8B",), (23,)), (("Llama-3.1-8B",), ("24",))]
)
def test_an_unknown_model_or_card_is_one_sentence(models, cards):
    with pytest.raises(LorakitError, match=r"Did you mean|Try"):
        model_matrix(models, cards)


def test_the_picture_has_each_cells_word_and_looks_that_differ_without_colour(matrix):
    ax = plot_matrix(matrix)
    written = {(round(t.get_position()[0]), round(t.get_position()[1])): t.get_text() for t in ax.texts}
    for y, model in enumerate(matrix.models):
        for x, card in enumerate(matrix.cards):
            assert written[x, y].replace("\n", ", ") == matrix.cells[model, card].text
    looks = {}
    for patch, cell in zip(ax.patches, matrix.cells.values(), strict=True):
        looks.setdefault(cell.method, set()).add(patch.get_hatch() or "")
        assert (patch.get_linestyle() in ("-", "solid")) is cell.sure
    assert looks["lora"] != looks["qlora"] and all(len(hatches) == 1 for hatches in looks.values())
    assert [t.get_text() for t in ax.get_xticklabels()] == [f"{card} GB" for card in CARDS]


def test_no_word_of_the_picture_runs_out_of_its_square(matrix):
    ax = plot_matrix(matrix)
    ax.figure.canvas.draw()
    for text, patch in zip(ax.texts, ax.patches, strict=True):
        inner, outer = text.get_window_extent(), patch.get_window_extent()
        assert outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1, text.get_text()


def test_the_sentence_names_the_card_from_which_each_method_fits(matrix):
    text = describe_matrix(matrix)
    for model in matrix.models:
        (told,) = re.findall(rf"{re.escape(model)}: (.*?)\.(?: |$)", text)
        first = matrix.cells[model, CARDS[0]].text
        assert told.startswith(("nothing" if first == "–" else first) + f" on {CARDS[0]} GB")


TIMES = {case.model: case.time for case in check_c16().cases if case.epochs == 1}


def test_the_bars_reach_from_the_low_to_the_high_time_and_the_claim_is_a_band():
    ax = plot_cost(TIMES, claimed=(15, 30))
    bars = [line for line in ax.lines if line.get_linewidth() == 5]
    assert [tuple(bar.get_xdata()) for bar in bars] == [time.minutes for time in TIMES.values()]
    assert [text.get_text() for text in ax.get_yticklabels()] == list(TIMES) and "minutes" in ax.get_xlabel()
    assert "claimed: 15 to 30 minutes" in [text.get_text() for text in ax.get_legend().get_texts()]
    ax.figure.canvas.draw()
    right = ax.get_window_extent().x1
    assert all(text.get_window_extent().x1 <= right for text in ax.texts)


def test_the_sentence_of_times_says_where_they_come_from():
    speed = throughput_of(300.0, find_model("SmolLM2-135M").shape, TrainSetup(seq_len=128))
    text = describe_cost(TIMES | {"here": speed.time_for(1000)}, claimed=(15, 30))
    assert text.startswith("Claimed: 15 to 30 minutes. Llama-3.2-1B: 2 min to 7 min (estimated)")
    assert text.endswith("here: 7 min (measured).")


def test_every_picture_draws_on_the_axes_it_is_given(matrix):
    for draw, given in ((plot_matrix, matrix), (plot_cost, TIMES)):
        ax = Figure().add_subplot()
        assert draw(given, ax=ax) is ax and png_bytes(ax.figure)[:4] == b"\x89PNG"
