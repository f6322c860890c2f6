"""A finished run in use: a client's model, predictions, folders for other programs, where new data fits."""
