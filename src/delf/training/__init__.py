"""Training: labelled photos, the classification loop, and the PCA that finishes a model. Needs the `[torch]` extra."""
