"""The method `embeddings`: a deep and a wide tower over embeddings, no encoder trained."""
