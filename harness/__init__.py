"""A reproducibility benchmark harness for single-image super-resolution."""
