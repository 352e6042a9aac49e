"""Training: configs, data, optimisers, the loop, and export of release weights."""
