"""Progress bar and live loss curve of a training run."""

import time

import ipywidgets as w

from ..plots import describe_training, new_axes, plot_training, png_bytes
from ..training import TrainingLog
from ._panel import Panel, new_image
from ._status import status

__all__ = ["TrainingPanel"]


class TrainingPanel(Panel):
    """Follows a trainer: ``TrainingPanel(trainer)`` then ``trainer.train()``.

    Attributes:
        log: the :class:`TrainingLog` it fills.
        widget: progress bar, live sentence and loss curve.
    """

    def __init__(self, trainer=None, *, seconds_between_redraws: float = 1.0):
        self.log = TrainingLog(listeners=[self.update])
        self._ax = new_axes(7.0, 3.0)
        self._pause, self._drawn, self._points = seconds_between_redraws, 0.0, 0
        self.bar = w.IntProgress(
            value=0, max=1, description="steps", style={"description_width": "initial"}, layout=w.Layout(width="95%")
        )
        self.sentence = w.HTML(status("Not started."))
        self.image = new_image()
        self.widget = w.VBox([self.bar, self.sentence, self.image])
        if trainer is not None:
            self.log.attach(trainer)

    def update(self, log: TrainingLog) -> None:
        """Show the log as it is now; the curve when it has new points, at most once a second, and always at the end."""
        self.bar.max, self.bar.value = max(log.max_steps, 1), log.step
        self.sentence.value = status(describe_training(log))
        last = log.step >= log.max_steps
        new = len(log.losses) != self._points
        if log.losses and (last or (new and time.monotonic() - self._drawn > self._pause)):
            self._ax.clear()
            plot_training(log, ax=self._ax)
            self.image.value = png_bytes(self._ax.figure)
            self._drawn, self._points = time.monotonic(), len(log.losses)
