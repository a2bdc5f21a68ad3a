"""Figures outside pyplot's global state, and the way they get into a notebook with a text alternative."""

import html
from base64 import b64encode
from io import BytesIO

__all__ = ["AFTER", "BEFORE", "figure_html", "new_axes", "png_bytes", "show_figure"]

BEFORE, AFTER = "#7f7f7f", "#00498d"


def new_axes(width=7.0, height=3.6):
    """Axes on a figure of their own, outside pyplot's global state. Width and height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def png_bytes(figure) -> bytes:
    """The figure as PNG, 110 dots per inch."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def figure_html(figure, alt: str) -> str:
    """The figure as an ``<img>`` with a text alternative (JupyterLab drops alt texts of displayed pictures)."""
    data = b64encode(png_bytes(figure)).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}" style="max-width:100%">'


def show_figure(ax, alt: str) -> None:
    """Display the axes' figure in a notebook with its text alternative."""
    from IPython.display import HTML, display

    display(HTML(figure_html(ax.figure, alt)))
