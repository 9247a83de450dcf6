"""What attention heads do: scores of one model's heads, path patching, ablation, swaps."""
