"""What the paper reports, as data: Houlsby et al. 2019, arXiv 1902.00751v2. Scores are in points of 100."""

from collections.abc import Mapping
from typing import NamedTuple

NO_BERT, FINE_TUNING, VARIABLE, ADAPTERS, ADAPTERS_64 = (
    "no BERT",
    "fine-tuning",
    "variable fine-tuning",
    "adapters",
    "adapters, 64",
)
METHODS = {  # ours -> the paper's
    "embeddings": NO_BERT,
    "fine_tune": FINE_TUNING,
    "top_layers": VARIABLE,
    "adapter": ADAPTERS,
}
OURS = {paper: ours for ours, paper in METHODS.items()}


class Score(NamedTuple):
    """One published number; ``sem`` is its standard error of the mean over seeds, where one is given."""

    mean: float
    sem: float | None = None


class Cost(NamedTuple):
    """The parameters of all tasks of a table together, in encoders, and those trained for one, in percent."""

    total: float
    trained: float


class PaperTask(NamedTuple):
    """A task as the paper has it; ``scores`` by the paper's methods."""

    metric: str
    scores: Mapping[str, Score]


def _glue(metric: str, *scores: float) -> PaperTask:
    names = (FINE_TUNING, ADAPTERS, ADAPTERS_64)
    return PaperTask(metric, {n: Score(s) for n, s in zip(names, scores, strict=True)})


def _further(no_bert: float, *scores: tuple[float, float]) -> PaperTask:
    names = (FINE_TUNING, VARIABLE, ADAPTERS)
    others = {name: Score(*score) for name, score in zip(names, scores, strict=True)}
    return PaperTask("accuracy", {NO_BERT: Score(no_bert), **others})


# Table 1: scores of the GLUE server on its test sets, BERT_LARGE.
TABLE_1: dict[str, PaperTask] = {
    "glue_cola": _glue("matthews", 60.5, 59.5, 56.9),
    "glue_sst2": _glue("accuracy", 94.9, 94.0, 94.2),
    "glue_mrpc": _glue("f1", 89.3, 89.5, 89.6),
    "glue_stsb": _glue("spearman", 87.6, 86.9, 87.3),
    "glue_qqp": _glue("f1", 72.1, 71.8, 71.8),
    "glue_mnli": _glue("accuracy", 86.7, 84.9, 85.3),
    "glue_mnli_mismatched": _glue("accuracy", 85.9, 85.1, 84.6),
    "glue_qnli": _glue("accuracy", 91.1, 90.7, 91.4),
    "glue_rte": _glue("accuracy", 70.1, 71.5, 68.8),
}
TABLE_1_COSTS = {FINE_TUNING: Cost(9.0, 100), ADAPTERS: Cost(1.3, 3.6), ADAPTERS_64: Cost(1.2, 2.1)}
# Printed, but not the plain means of the columns above.
TABLE_1_MEANS = {FINE_TUNING: 80.4, ADAPTERS: 80.0, ADAPTERS_64: 79.6}

# Table 2: accuracy on test, mean and s.e.m. over seeds, BERT_BASE.
TABLE_2: dict[str, PaperTask] = {
    "newsgroups20": _further(91.1, (92.8, 0.1), (92.8, 0.1), (91.7, 0.2)),
    "cf_airline": _further(84.5, (83.6, 0.3), (84.0, 0.1), (84.5, 0.2)),
    "cf_corporate_messaging": _further(91.9, (92.5, 0.5), (92.4, 0.6), (92.9, 0.3)),
    "cf_disasters": _further(84.9, (85.3, 0.4), (85.3, 0.4), (84.1, 0.2)),
    "cf_economic_news_relevance": _further(81.1, (82.1, 0.0), (78.9, 2.8), (82.5, 0.3)),
    "cf_emotion": _further(36.3, (38.4, 0.1), (37.6, 0.2), (38.7, 0.1)),
    "cf_global_warming": _further(82.7, (84.2, 0.4), (81.9, 0.2), (82.7, 0.3)),
    "cf_political_audience": _further(81.0, (80.9, 0.3), (80.7, 0.8), (79.0, 0.5)),
    "cf_political_bias": _further(76.8, (75.2, 0.9), (76.5, 0.4), (75.9, 0.3)),
    "cf_political_message": _further(43.8, (38.9, 0.6), (44.9, 0.6), (44.1, 0.2)),
    "cf_primary_emotions": _further(33.5, (36.9, 1.6), (38.2, 1.0), (33.9, 1.4)),
    "cf_progressive_opinion": _further(70.6, (71.6, 0.5), (75.9, 1.3), (71.7, 1.1)),
    "cf_progressive_stance": _further(54.3, (63.8, 1.0), (61.5, 1.3), (60.6, 1.4)),
    "cf_us_economic_performance": _further(75.6, (75.3, 0.1), (76.5, 0.4), (77.3, 0.1)),
    "customer_complaints": _further(54.5, (55.9, 0.1), (56.4, 0.1), (55.4, 0.1)),
    "news_aggregator": _further(95.2, (96.3, 0.0), (96.5, 0.0), (96.2, 0.0)),
    "sms_spam": _further(98.5, (99.3, 0.2), (99.3, 0.2), (95.1, 2.2)),
}
TABLE_2_COSTS = {FINE_TUNING: Cost(17, 100), VARIABLE: Cost(9.9, 52.9), ADAPTERS: Cost(1.19, 1.14)}

# §3.5: F1 on the validation set, BERT_BASE.
SQUAD: dict[str, PaperTask] = {
    "squad_v1": PaperTask(
        "squad_f1",
        {FINE_TUNING: Score(90.7), ADAPTERS_64: Score(90.4), "adapters, 2": Score(89.9)},
    )
}

# §3.6: mean validation accuracy over the eight classification tasks of GLUE, by adapter size.
SIZES = {8: 86.2, 64: 85.8, 256: 85.7}
