"""The tasks known by name: GLUE, the further ones of Houlsby et al. 2019, and SQuAD."""

from dataclasses import dataclass

from pipelines.errors import InputError, nearest
from pipelines.tasks.task import Hub, Task

Sizes = tuple[int, int, int]  # rows of train, validation, test


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A registered task and what is known of it.

    Attributes:
        hub: read where no ``data_dir`` has the task's files; None: it is not on the Hub as the paper used it.
        labels: the class names, in the order of the source's numbers; () for numbers, spans, and classes that
            only the file can tell.
        classes: how many there are; 0 for numbers and spans.
        sizes: the paper's rows of each split (Table 3), or the benchmark's own.
        source: what to get where it is not on the Hub; docs/tasks.md has more.
        prepared: whether `pipelines.tasks.prepare` turns the public file into our layout.
    """

    task: Task
    hub: Hub | None = None
    labels: tuple[str, ...] = ()
    classes: int = 0
    sizes: Sizes
    source: str
    prepared: bool = False


_ENTRIES: dict[str, Entry] = {}


def register(entry: Entry) -> Entry:
    """Make a task known by its name.

    Raises:
        ValueError: the name is taken.
    """
    name = entry.task.name
    if name in _ENTRIES:
        raise ValueError(f"task {name!r} is registered twice; rename one of them")
    _ENTRIES[name] = entry
    return entry


def registered_entry(name: str) -> Entry:
    """What is known of the task of this name.

    Raises:
        InputError: there is none; it names the nearest.
    """
    if name not in _ENTRIES:
        raise InputError("name", name, "not a registered task", nearest(name, _ENTRIES))
    return _ENTRIES[name]


def registered_task(name: str) -> Task:
    """The task of this name; raises as `registered_entry`."""
    return registered_entry(name).task


def registered_tasks() -> tuple[Task, ...]:
    """All of them, by name."""
    return tuple(_ENTRIES[name].task for name in sorted(_ENTRIES))


def registered_hub(name: str) -> Hub | None:
    """Where a registered task lies on the Hub, if it does."""
    return _ENTRIES[name].hub if name in _ENTRIES else None


def where_to_get(task: Task) -> str:
    """What to do about a task whose rows are nowhere."""
    from pipelines.tasks.readers import any_of  # brings pyarrow, which listing tasks needs not

    columns = ", ".join(map(repr, (*task.text, task.label)))
    put = f"Put {any_of('train')} with columns {columns} into <data_dir>/{task.name}/."
    entry = _ENTRIES.get(task.name)
    if entry is None or not entry.prepared:
        return put
    return (
        f"Get {entry.source} (docs/tasks.md says where), then: "
        f"adaptune data prepare {task.name} FILE --out <data_dir>"
    )


# GLUE (Wang et al. 2019). Metrics as in the paper's Table 1; labels in the Hub's order; sizes are GLUE's own.


def _register_glue(
    config: str,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
    sizes: Sizes,
    *,
    metric: str = "",
    metrics: tuple[str, ...] = (),
    positive: str | None = None,
) -> None:
    """``labels`` of () make it a regression."""
    task = Task(
        name=f"glue_{config}",
        text=("text",) if len(columns) == 1 else ("text_a", "text_b"),
        kind="classification" if labels else "regression",
        metric=metric,
        metrics=metrics,
        positive=positive,
        also=("validation_mismatched",) if config == "mnli" else (),
    )
    matched = "_matched" if config == "mnli" else ""
    hub = Hub(
        path="nyu-mll/glue",
        config=config,
        validation=f"validation{matched}",
        test=f"test{matched}",
        text=columns,
        labels=labels,
    )
    source = f"the Hub's nyu-mll/glue, {config}"
    register(Entry(task=task, hub=hub, labels=labels, classes=len(labels), sizes=sizes, source=source))


_ENTAILMENT = ("entailment", "not_entailment")
_SENTENCES = ("sentence1", "sentence2")
_EQUIVALENT = ("not_equivalent", "equivalent")
_DUPLICATE = ("not_duplicate", "duplicate")
_register_glue(
    "cola", ("sentence",), ("unacceptable", "acceptable"), (8_551, 1_043, 1_063), metric="matthews"
)
_register_glue("sst2", ("sentence",), ("negative", "positive"), (67_349, 872, 1_821))
_register_glue(
    "mrpc",
    _SENTENCES,
    _EQUIVALENT,
    (3_668, 408, 1_725),
    metric="f1",
    metrics=("accuracy",),
    positive="equivalent",
)
_register_glue("stsb", _SENTENCES, (), (5_749, 1_500, 1_379), metrics=("pearson",))
_register_glue(
    "qqp",
    ("question1", "question2"),
    _DUPLICATE,
    (363_846, 40_430, 390_965),
    metric="f1",
    metrics=("accuracy",),
    positive="duplicate",
)
_register_glue(  # chosen by the matched genres; the mismatched are 9,832 rows more
    "mnli",
    ("premise", "hypothesis"),
    ("entailment", "neutral", "contradiction"),
    (392_702, 9_815, 9_796),
)
_register_glue("qnli", ("question", "sentence"), _ENTAILMENT, (104_743, 5_463, 5_463))
_register_glue("rte", _SENTENCES, _ENTAILMENT, (2_490, 277, 3_000))
_register_glue("wnli", _SENTENCES, ("not_entailment", "entailment"), (635, 71, 146))


# The further tasks of Houlsby et al. 2019 (Tables 2 and 3), scored by accuracy.


def _register_further(
    name: str,
    sizes: Sizes,
    source: str,
    labels: tuple[str, ...],
    *,
    classes: int | None = None,
    hub: Hub | None = None,
) -> None:
    register(
        Entry(
            task=Task(name=name, text=("text",)),
            hub=hub,
            labels=labels,
            classes=classes or len(labels),
            sizes=sizes,
            source=source,
            prepared=True,
        )
    )


_register_further(
    "newsgroups20",
    (15_076, 1_885, 1_885),
    "the folder that 20news-bydate.tar.gz unpacks to",
    (
        *("alt.atheism", "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware"),
        *("comp.sys.mac.hardware", "comp.windows.x", "misc.forsale", "rec.autos", "rec.motorcycles"),
        *("rec.sport.baseball", "rec.sport.hockey", "sci.crypt", "sci.electronics", "sci.med", "sci.space"),
        *("soc.religion.christian", "talk.politics.guns", "talk.politics.mideast", "talk.politics.misc"),
        "talk.religion.misc",
    ),
)
_register_further(
    "cf_airline",
    (11_712, 1_464, 1_464),
    "Airline-Sentiment-2-w-AA.csv",
    ("negative", "neutral", "positive"),
)
_register_further(
    "cf_corporate_messaging",
    (2_494, 312, 312),
    "Corporate-messaging-DFE.csv",
    ("action", "dialogue", "exclude", "information"),
)
_register_further(
    "cf_disasters",
    (8_688, 1_086, 1_086),
    "socialmedia-disaster-tweets-DFE.csv",
    ("not_relevant", "relevant"),
)
_register_further(
    "cf_economic_news_relevance",
    (6_392, 799, 800),
    "Full-Economic-News-DFE-839861.csv",
    ("not_relevant", "relevant"),
)
_register_further(
    "cf_emotion",
    (32_000, 4_000, 4_000),
    "text_emotion.csv",
    (
        *("anger", "boredom", "empty", "enthusiasm", "fun", "happiness", "hate", "love", "neutral"),
        *("relief", "sadness", "surprise", "worry"),
    ),
)
_register_further(
    "cf_global_warming", (3_380, 422, 423), "1377884570_tweet_global_warming.csv", ("no", "yes")
)
_POLITICAL = "Political-media-DFE.csv"
_register_further("cf_political_audience", (4_000, 500, 500), _POLITICAL, ("constituency", "national"))
_register_further("cf_political_bias", (4_000, 500, 500), _POLITICAL, ("neutral", "partisan"))
_register_further(
    "cf_political_message",
    (4_000, 500, 500),
    _POLITICAL,
    (
        *("attack", "constituency", "information", "media", "mobilization", "other", "personal"),
        *("policy", "support"),
    ),
)
_register_further(
    "cf_primary_emotions",
    (2_019, 252, 253),
    "primary-plutchik-wheel-DFE.csv",
    (
        *("aggression", "ambiguous", "anger", "anticipation", "awe", "contempt", "disapproval", "disgust"),
        *("fear", "joy", "love", "neutral", "optimism", "remorse", "sadness", "submission", "surprise"),
        "trust",
    ),
)
_PROGRESSIVE = "progressive-tweet-sentiment.csv"
_register_further(
    "cf_progressive_opinion",
    (927, 116, 116),
    _PROGRESSIVE,
    ("no_explicit_opinion", "opinion_about_other", "opinion_about_target"),
)
_register_further(
    "cf_progressive_stance", (927, 116, 116), _PROGRESSIVE, ("against", "for", "neutral", "none")
)
_register_further(
    "cf_us_economic_performance",
    (3_961, 495, 496),
    "us-economic-newspaper.csv",
    ("not_relevant", "relevant"),
)
_register_further(  # the classes are those of the file: the agency has renamed many since
    "customer_complaints", (146_667, 18_333, 18_334), "complaints.csv", (), classes=157
)
_register_further(
    "news_aggregator",
    (338_349, 42_294, 42_294),
    "newsCorpora.csv",
    ("business", "entertainment", "health", "science_technology"),
)
_register_further(
    "sms_spam",
    (4_459, 557, 558),
    "SMSSpamCollection",
    ("ham", "spam"),
    hub=Hub(path="ucirvine/sms_spam", validation=None, test=None, text=("sms",), labels=("ham", "spam")),
)

register(  # the paper reports the validation set (§3.5); the official test set is not public
    Entry(
        task=Task(
            name="squad_v1",
            text=("question", "context"),
            label="answers_text",
            kind="span",
            metrics=("squad_em",),
        ),
        hub=Hub(path="rajpurkar/squad", test=None),
        sizes=(87_599, 10_570, 0),
        source="the folder with train-v1.1.json and dev-v1.1.json",
        prepared=True,
    )
)
