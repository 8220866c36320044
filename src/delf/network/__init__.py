"""The model in torch: for training, export and other people's weights. Everything here needs the `[torch]` extra."""
