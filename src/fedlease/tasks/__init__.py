"""What a data set means: encode, batch, score."""
