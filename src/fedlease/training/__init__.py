"""The only optimisation loop, and the base model it runs on."""
