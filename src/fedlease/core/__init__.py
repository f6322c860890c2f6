"""The words of federated learning: weights, adapters, messages, clients, methods. Needs torch only."""
