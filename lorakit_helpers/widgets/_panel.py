"""What every panel has in common."""

__all__ = ["Panel"]


class Panel:
    """Shows its ``widget`` when it is the value of a cell or passed to ``display``."""

    def _ipython_display_(self):
        from IPython.display import display

        display(self.widget)
