"""The tables and figures of the paper, beside our numbers."""
