"""The frozen encoder: loading and sharing it, the tokens that it reads, what is computed once."""
