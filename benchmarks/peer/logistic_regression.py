"""Logistic regression on the frozen encoder's vectors, as a user would write it; a side of accuracy.py.

sentence-transformers makes the vectors (as the encoder's folder says: mean of the tokens, scaled to length
1), scikit-learn fits; its strength is the one that is best on validation. Settings as JSON in, one line out.
"""

import json
import sys

import torch
from rows import answer, read_splits
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)  # scikit-learn's C


def main(settings):
    torch.set_num_threads(settings["threads"])
    encoder = SentenceTransformer(settings["backbone_folder"], device="cpu")
    encoder.max_seq_length = settings["max_tokens"]
    splits = read_splits(settings["rows"])
    vectors = {split: encoder.encode(texts, show_progress_bar=False) for split, (texts, _) in splits.items()}
    best = None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(vectors["train"], splits["train"][1])
        scores = {split: model.score(vectors[split], splits[split][1]) for split in ("validation", "test")}
        if best is None or scores["validation"] > best[0]["validation"]:
            best = scores, strength
    answer(best[0], f"C = {best[1]:g}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
