"""What every panel has in common: controls that redraw, a live sentence, a picture, Reset, and problems as sentences."""

import ipywidgets as w
from traitlets import Unicode

from ._status import status

__all__ = ["Panel", "columns", "labelled", "new_image", "side_by_side"]


def labelled(width: int) -> dict:
    """Options of a control that shows its whole description, ``width`` pixels wide where there is room."""
    return {"style": {"description_width": "initial"}, "layout": w.Layout(width=f"{width}px", max_width="100%")}


def columns(*parts) -> w.HBox:
    """Lists of controls side by side, or one below the other where the page is narrow."""
    return side_by_side(*(w.VBox(list(part)) for part in parts))


def side_by_side(*widgets) -> w.HBox:
    """Widgets in a row, or in several where the page is narrow."""
    return w.HBox(widgets, layout=w.Layout(flex_flow="row wrap", grid_gap="0 1.5em"))


class _NamedImage(w.Image):
    """A picture with a name for screen readers: ipywidgets writes no ``alt``, but version 8 takes ``tooltip`` for a ``title``.

    Its page-side code reads a ``description`` before it does so and fails where there is none. Version 7 ignores both.
    """

    description = Unicode("").tag(sync=True)
    tooltip = Unicode("A picture of what the sentence beside it says").tag(sync=True)


def new_image(width: str = "100%") -> w.Image:
    """An empty picture, never wider than ``width`` of its cell."""
    return _NamedImage(format="png", layout=w.Layout(max_width=width, align_self="flex-start"))


class Panel:
    """Shows its ``widget`` when it is the value of a cell or passed to ``display``.

    A panel that redraws when a control changes makes its controls, calls :meth:`_wire`, and says in ``_show`` what they
    show: ``_show(values)`` takes the controls' values by name, sets ``result``, and returns the sentence and the picture
    as PNG bytes. A panel with more to show below the picture empties it in its own ``_refuse``.

    Attributes:
        controls: name to control; those without a value, such as ``reset``, are buttons.
        result: what is on show, or None after a problem.
        widget: what is displayed.
    """

    result = None
    _picture = None
    _quiet = False

    def _ipython_display_(self):
        from IPython.display import display

        display(self.widget)

    def _wire(self, controls: dict, *, rows=None, pictures=None, below=()) -> None:
        """Put the panel together, have it redraw at every change, and show what the controls say now.

        Args:
            controls: name to control; a button ``reset`` brings back the values they have now.
            rows: the controls in the order and boxes they are displayed in; None: one below the other.
            pictures: what stands in the picture's place, ``self.image`` in it; None: the picture alone.
            below: widgets under the picture.
        """
        self.controls = controls
        self._inputs = {name: control for name, control in controls.items() if not isinstance(control, w.Button)}
        self._start = {name: control.value for name, control in self._inputs.items()}
        self.sentence = w.HTML()
        if pictures is None:
            self.image = pictures = new_image()
        self.widget = w.VBox([*(controls.values() if rows is None else rows), self.sentence, pictures, *below])
        for control in self._inputs.values():
            control.observe(lambda _: self.run(), "value")
        if "reset" in controls:
            controls["reset"].on_click(lambda _: self._reset())
        self.run()

    def run(self):
        """Show what the controls say, and return ``result``; a problem is shown as a sentence."""
        if self._quiet:
            return self.result
        try:
            self._tell(*self._show({name: control.value for name, control in self._inputs.items()}))
        except Exception as error:  # a callback's exception would be invisible in the page
            self._refuse(error)
        return self.result

    def _show(self, values: dict) -> tuple[str, bytes]:
        raise NotImplementedError

    def _reset(self) -> None:
        self._to_start()
        self.run()

    def _to_start(self) -> None:
        """Give the controls the values in ``_start``, without a redraw for each (``_quiet`` holds them back)."""
        self._quiet = True
        for name, value in self._start.items():
            self.controls[name].value = value
        self._quiet = False

    def _tell(self, sentence: str, picture: bytes) -> None:
        """Show a picture with its sentence, the sentence last: it is the sign that the redraw has settled."""
        self.image.value = picture
        self.image.layout.visibility = "visible"
        self.sentence.value = status(sentence)

    def _refuse(self, error: Exception) -> None:
        """Show a problem as a sentence, and no picture: the last one would belong to other controls."""
        self.result = None
        self.image.layout.visibility = "hidden"
        self.sentence.value = status(str(error), alert=True)
