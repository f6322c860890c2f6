"""The PEFT tuner: config, router, layer, model, export."""
