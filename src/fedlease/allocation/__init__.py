"""From LoRA weights to clusters: distances, dendrogram, silhouette, decision."""
