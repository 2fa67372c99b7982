"""What a pack computes on a GPU in Triton; the modules of `packs` compute the same without it."""
