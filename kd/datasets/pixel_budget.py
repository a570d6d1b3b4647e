"""How many pixels may be in memory at their full size, whatever the number of threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """Waits until an image fits into what may be decoded at once; one that is larger than all of it comes alone."""

    def __init__(self, pixels: int) -> None:
        self.pixels, self.taken = pixels, 0
        self.changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: not self.taken or self.taken + pixels <= self.pixels)
            self.taken += pixels
        try:
            yield
        finally:
            with self.changed:
                self.taken -= pixels
                self.changed.notify_all()
