"""A reproducibility benchmark harness for single-image super-resolution."""

import time

STARTED = time.monotonic()
"""When this process began, but for the start of Python itself."""
