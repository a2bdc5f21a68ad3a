"""Pictures of results. Each plot draws on the axes it is given and has a sentence that says the same."""

from .figures import figure_html, new_axes, png_bytes, show_figure
from .training import describe_before_after, describe_training, plot_before_after, plot_training

__all__ = [
    "describe_before_after", "describe_training", "figure_html", "new_axes", "plot_before_after", "plot_training", "png_bytes",
    "show_figure",
]  # fmt: skip
