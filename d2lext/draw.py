"""Draw the curves of a training run in a notebook, and intervals of accuracy."""

import base64
import functools
import io
import sys
import time


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return getattr(shell, "kernel", None) is not None


class Curves:
    """The book's curves under a progress bar, redrawn in place; only in a notebook."""

    def __init__(self, num_epochs: int) -> None:
        self.num_epochs, self.start = num_epochs, time.perf_counter()
        self.bar, self.drawn = None, 0.0

    def update(self, history, last: bool = False) -> None:
        """Draw a growing `History`, at most once a second, and at the end."""
        wait = time.perf_counter() - self.drawn < 1 and not last
        if not history or wait or not _in_notebook():
            return
        from IPython.display import display

        if self.bar is None:
            self.bar, self.image = (
                display({"text/plain": ""}, raw=True, display_id=True) for _ in range(2)
            )
        words, done = self._words(history[-1].epoch, last), history[-1].epoch
        bar = f'<progress value="{done:.2f}" max="{self.num_epochs}"></progress>'
        self.bar.update({"text/plain": words, "text/html": f"{bar} {words}"}, raw=True)
        self.image.update(self._image(history), raw=True)
        self.drawn = time.perf_counter()

    def _words(self, done: float, last: bool) -> str:
        spent = time.perf_counter() - self.start
        took = f"{spent:.0f} s" if spent > 10 else f"{spent:.1f} s"
        if last and done == self.num_epochs:
            return f"{self.num_epochs} epochs in {took}"
        left = f"{spent * (self.num_epochs / done - 1):.0f} s left"
        end = f"stopped after {took}" if last else left
        return f"{done:.1f} of {self.num_epochs} epochs, {end}"

    def _image(self, history) -> dict:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.5, 2.5), layout="constrained")
        ax, ends, at = figure.subplots(), history.epochs(), [p.epoch for p in history]
        ax.plot(at, [p.loss for p in history], "-", label="train loss")
        ax.plot(at, [p.train_acc for p in history], "m--", label="train acc")
        test = [p.test_acc for p in ends]
        ax.plot([p.epoch for p in ends], test, "g-.o", ms=3, label="test acc")
        ax.set(xlabel="epoch", xlim=(0, self.num_epochs))
        ax.set_ylim(0, max(1, history[0].loss))
        ax.grid()
        ax.legend()
        words = f"train loss, train accuracy and test accuracy: {history}"
        encoded = base64.b64encode(_png(figure)).decode()
        return {"image/png": encoded, "text/plain": words}


def _png(figure) -> bytes:
    figure.savefig(png := io.BytesIO(), dpi=100)
    return png.getvalue()


@functools.lru_cache(1)
def intervals(rows: tuple, xlabel: str, width: int):
    """A PIL image, `width` pixels wide, of rows: label, mean, half interval, words."""
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure((width / 100, 0.8 + 0.4 * len(rows)), layout="constrained")
    ax = figure.subplots()
    for i, (_, mean, half, *_) in enumerate(rows):
        ax.errorbar(mean, i, xerr=half, fmt="oC0", capsize=3)
    labels = [f"{label}\n{words}" for label, _, _, words, *_ in rows]
    ax.set_yticks(range(len(rows)), labels, fontsize=8)
    ax.set(xlabel=xlabel, ylim=(max(1, len(rows)) - 0.5, -0.5))
    return Image.open(io.BytesIO(_png(figure))).convert("RGB")


def closing(history, num_epochs: int, devices: list) -> str:
    """The book's last two lines, or how far a stopped run came."""
    last = history[-1]
    words = str(last)
    if last.epoch < num_epochs:
        words = f"stopped after {last.epoch:.1f} of {num_epochs} epochs; "
        words += "train_ch13.history has the results so far"
    return f"{words}\n{last.examples / last.seconds:.1f} examples/sec on {devices}"
