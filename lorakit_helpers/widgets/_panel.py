"""What every panel has in common."""

from ._status import status

__all__ = ["Panel"]


class Panel:
    """Shows its ``widget`` when it is the value of a cell or passed to ``display``."""

    def _ipython_display_(self):
        from IPython.display import display

        display(self.widget)

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
