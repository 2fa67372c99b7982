"""Public files in their original formats, made up and small."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.errors import InputError
from pipelines.tasks import raw
from pipelines.tasks.prepare import prepare
from pipelines.tasks.raw import PUBLIC_FILES
from pipelines.tasks.registry import registered_entry, registered_task
from pipelines.tasks.rows import read_task
from pipelines.tasks.span_rows import SQUAD_SCHEMA

MANIFEST_DATA = Path(__file__).parents[3] / "../shared/data"
UNIT = "_unit_id,_golden,_unit_state,_trusted_judgments,_last_judgment_at"
Q1 = PUBLIC_FILES["cf_progressive_stance"].label
Q2 = PUBLIC_FILES["cf_progressive_opinion"].label
RELEVANCE = "positivity,positivity:confidence,relevance,relevance:confidence"
POLITICAL = (
    "audience,audience:confidence,bias,bias:confidence,message,message:confidence,orig__golden,source,text"
)


def unit(*cells):
    return [1, "FALSE", "finalized", 3, "2/18/15 4:31", *cells]


def political(audience, bias, message):
    return unit(audience, 1, bias, 1, message, 1, "", "twitter", "Join me, today")


# task: header, rows by the label they should get (None: dropped)
CSV_FILES = {
    "cf_airline": (
        f"{UNIT},airline_sentiment,airline_sentiment:confidence,negativereason,airline,text",
        {
            "negative": unit("negative", 1, "Late Flight", "Delta", '@delta "late", again'),
            "neutral": unit("neutral", 0.7, "", "United", "@united when\ndo you land"),
            "positive": unit("positive", 1, "", "United", "thanks"),
        },
    ),
    "cf_corporate_messaging": (
        f"{UNIT},category,category:confidence,category_gold,id,screenname,text",
        {
            "information": unit("Information", 1, "", 4.37e17, "Barclays", "its Â£5.8bn issue"),
            "action": unit("Action", 0.67, "", 1, "Barclays", "Read it"),
            "dialogue": unit("Dialogue", 1, "", 1, "Shell", "@you thanks"),
            "exclude": unit("Exclude", 1, "", 1, "Shell", "bonjour"),
        },
    ),
    "cf_disasters": (
        f"{UNIT},choose_one,choose_one:confidence,choose_one_gold,keyword,location,text,tweetid,userid",
        {
            "relevant": unit("Relevant", 1, "", "ablaze", "", "fire!", 1, ""),
            "not_relevant": unit("Not Relevant", 1, "", "ablaze", "", "my heart is ablaze", 1, ""),
            None: unit("Can't Decide", 1, "", "ablaze", "", "ablaze", 1, ""),
        },
    ),
    "cf_economic_news_relevance": (
        f"{UNIT},{RELEVANCE},articleid,date,headline,positivity_gold,relevance_gold,text",
        {
            "relevant": unit(3, 0.64, "yes", 0.64, "wsj_1", "8/14/91", "Yields fell", "", "", "Yields<br>"),
            "not_relevant": unit("", "", "no", 1, "wsj_2", "8/14/91", "A book", "", "", "A book of"),
            None: unit("", "", "not sure", 1, "wsj_3", "8/14/91", "Hm", "", "", "Hm"),
        },
    ),
    "cf_emotion": (
        "tweet_id,sentiment,author,content",
        {"empty": [1, "empty", "xoshayzers", "@tiffany i know"], "worry": [2, "worry", "b", "no sleep"]},
    ),
    "cf_global_warming": (
        "tweet,existence,existence.confidence",
        {"yes": ["it is real", "Yes", 1], "no": ["it is not", "N", 0.6], None: ["what [link]", "N/A", 1]},
    ),
    "cf_political_audience": (
        f"{UNIT},{POLITICAL}",
        {
            "national": political("national", "partisan", "policy"),
            "constituency": political("constituency", "neutral", "media"),
        },
    ),
    "cf_political_bias": (
        f"{UNIT},{POLITICAL}",
        {
            "partisan": political("national", "partisan", "policy"),
            "neutral": political("constituency", "neutral", "media"),
        },
    ),
    "cf_political_message": (
        f"{UNIT},{POLITICAL}",
        {
            "policy": political("national", "partisan", "policy"),
            "media": political("constituency", "neutral", "media"),
        },
    ),
    "cf_primary_emotions": (
        f"{UNIT},emotion,emotion_confidence,emotion_gold,id,idiom_id,sentence",
        {
            "anger": unit("Anger", 0.6, "Anger\nAwe", 29, 29, "Over my dead body."),
            "trust": unit("Trust", 0.3, "", 30, 30, "I do.\n"),
            None: unit("", "", "", 31, 31, "And this?"),
        },
    ),
    "cf_progressive_stance": (
        f"{UNIT},{Q1},{Q1}:confidence,{Q2},target,tweet",
        {
            "against": unit("AGAINST: We can infer, e.g. so", 0.6, "2. Other", "Atheism", "a tweet"),
            "for": unit("FOR: We can infer", 1, "1.  It does", "Atheism", "b"),
            "neutral": unit("NEUTRAL: We can", 1, "1.  It does", "Atheism", "c"),
            "none": unit("NONE OF THE ABOVE: There is no clue (a/b).", 1, "1.  It does", "Atheism", "d"),
        },
    ),
    "cf_progressive_opinion": (
        f"{UNIT},{Q1},{Q1}:confidence,{Q2},target,tweet",
        {
            "opinion_about_target": unit("FOR: so", 1, "1.  The tweet explicitly. And", "Atheism", "a"),
            "opinion_about_other": unit("FOR: so", 1, "2. The tweet does NOT", "Atheism", "b"),
            "no_explicit_opinion": unit("FOR: so", 1, "3.  The tweet is not", "Atheism", "c"),
        },
    ),
    "cf_us_economic_performance": (
        f"{UNIT},{RELEVANCE},articleid,date,headline,lineid,next_sentence,previous_sentence,text",
        {
            "relevant": unit(6, 1, "yes", 1, "x", "1/1/92", "H", "1", "n", "p", "the market‰ЫЄs split"),
            "not_relevant": unit("", "", "no", 1, "x", "1/1/92", "H", "1", "n", "p", "A sport."),
            None: unit("", "", "not sure", 1, "x", "1/1/92", "H", "1", "n", "p", "Hm."),
        },
    ),
    "customer_complaints": (
        "Date received,Product,Sub-product,Issue,Sub-issue,Consumer complaint narrative,Company",
        {
            "Incorrect information": ["03/12/14", "Mortgage", "", "Incorrect information", "", "XXXX", "M&T"],
            "Cont'd attempts": ["03/13/14", "Debt", "", "Cont'd attempts", "", "They call, and call", "A"],
            None: ["10/01/16", "Debt", "", "Cont'd attempts", "", "", "A"],
        },
    ),
}


def write_csv(path, header, rows, *, encoding="utf-8", end="\r\n"):
    with path.open("w", encoding=encoding, newline="") as file:
        file.write(header + end)
        csv.writer(file, lineterminator=end, quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    return path


@pytest.mark.parametrize("task", CSV_FILES)
@pytest.mark.parametrize(("encoding", "end"), [("utf-8-sig", "\r\n"), ("cp1252", "\r")])
def test_each_csv_file_gives_its_texts_and_our_labels(tmp_path, task, encoding, end):
    header, rows = CSV_FILES[task]
    encoding = "utf-8" if "‰Ы" in str(rows) else encoding  # Cyrillic letters
    read = PUBLIC_FILES[task].read(
        write_csv(tmp_path / "raw.csv", header, rows.values(), encoding=encoding, end=end)
    )
    assert read.labels == [label for label in rows if label is not None]
    assert [number for number, _ in read.dropped] == ([len(rows)] if None in rows else [])
    text = header.split(",").index(PUBLIC_FILES[task].text)
    expected = [str(row[text]) for label, row in rows.items() if label is not None]
    expected = [one.replace("Â£", "£").replace("‰ЫЄ", "\u2019") for one in expected]
    assert read.texts == expected


def test_both_ways_of_writing_yes_and_no_count(tmp_path):
    rows = [[f"tweet {word}", word, 1] for word in ("Yes", "Y", "No", "N", "NA")]
    read = PUBLIC_FILES["cf_global_warming"].read(write_csv(tmp_path / "raw.csv", "tweet,existence,x", rows))
    assert read.labels == ["yes", "yes", "no", "no"]


def test_the_labels_we_give_are_the_registered_ones():
    for name, reader in PUBLIC_FILES.items():
        labels = reader.labels
        given = set(labels.values() if isinstance(labels, dict) else labels or ())
        assert given == set(registered_entry(name).labels), name


def test_the_sms_file_is_two_tabbed_fields_without_quoting(tmp_path):
    raw = b'ham\tOk lar... "Joking\nspam\tWin \xa31000\tnow\nham\t \nnothing here\n\n'
    (tmp_path / "SMSSpamCollection").write_bytes(raw)
    read = PUBLIC_FILES["sms_spam"].read(tmp_path / "SMSSpamCollection")
    assert list(zip(read.texts, read.labels, strict=True)) == [
        ('Ok lar... "Joking', "ham"),
        ("Win £1000\tnow", "spam"),
    ]
    assert read.dropped == [(3, "no text"), (4, "1 fields instead of 2")]


def test_the_news_file_has_eight_fields_and_quotes_that_mean_nothing(tmp_path):
    rest = "http://a.b\tReuters\t{}\tdDU\twww.a.b\t1394470370698"
    lines = [f'{n}\t"Title {n}, \u2028so\t{rest.format(letter)}' for n, letter in enumerate("btemx", start=1)]
    (tmp_path / "newsCorpora.csv").write_text("\n".join([*lines, "6\tshort\n"]), encoding="utf-8")
    read = PUBLIC_FILES["news_aggregator"].read(tmp_path / "newsCorpora.csv")
    assert read.labels == ["business", "science_technology", "entertainment", "health"]
    assert read.texts[0] == '"Title 1, \u2028so'
    assert read.dropped == [
        (5, "label 'x' is none of the task's classes"),
        (6, "2 fields instead of 8"),
    ]


def test_newsgroups_are_folders_of_latin_1_posts(tmp_path):
    groups = registered_entry("newsgroups20").labels
    for half in ("20news-bydate-train", "20news-bydate-test"):
        for group in groups:
            (tmp_path / half / group).mkdir(parents=True)
            (tmp_path / half / group / "49960").write_bytes(f"From: {half}\n\ncaf".encode() + b"\xe9\n")
    read = PUBLIC_FILES["newsgroups20"].read(tmp_path)
    assert len(read.texts) == 40
    assert set(read.labels) == set(groups)
    assert read.texts[0] == "From: 20news-bydate-test\n\ncafé\n"


@pytest.mark.parametrize(
    ("task", "write", "said"),
    [
        (
            "cf_emotion",
            lambda p: p.write_text("id,text\n1,a\n"),
            "has no column 'content'; it has id, text. Known: 'id', 'text'.",
        ),
        ("cf_emotion", lambda p: p.write_text(""), "has no column 'content'; it has nothing"),
        (
            "cf_emotion",
            lambda p: p.write_text("content,sentiment,Content\n"),
            "has several columns 'content'",
        ),
        ("cf_emotion", lambda p: p.mkdir(), "is a folder. Give the file as it was published"),
        ("newsgroups20", lambda p: p.write_text("x"), "is not a folder. Give the folder that holds 20news"),
        ("newsgroups20", lambda p: p.mkdir(), "has no folder 'alt.atheism' in it or one below"),
        ("squad_v1", lambda p: p.mkdir(), "holds no train-v1.1.json. Give the folder that holds train"),
        ("glue_rte", lambda p: p.write_text("x"), "TASK = 'glue_rte': needs no public file prepared"),
        ("cf_emotoin", lambda p: p.write_text("x"), "not a registered task. Did you mean 'cf_emotion'?"),
        ("cf_emotion", lambda _: None, "no such file or folder. Correct the path."),
        (
            "cf_emotion",
            lambda p: p.write_text('sentiment,content\nglad,a\nworry,"b'),
            "holds 1 usable rows, of 2: too few to split (label 'glad' is none of the task's classes in row",
        ),
    ],
)
def test_a_file_that_is_not_the_published_one_is_refused(tmp_path, task, write, said):
    write(tmp_path / "raw")
    with pytest.raises(InputError) as caught:
        prepare(task, tmp_path / "raw", tmp_path / "data")
    assert said in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_a_csv_column_s_name_may_be_as_long_as_a_cell(tmp_path):
    """The csv module's own limit is 131,072 characters, which is no fault of a file."""
    header = ["content", "sentiment", "x" * 200_000]
    read = PUBLIC_FILES["cf_emotion"].read(
        write_csv(tmp_path / "raw.csv", ",".join(header), [["no sleep", "worry", "y" * 200_000]])
    )
    assert (read.texts, read.labels) == (["no sleep"], ["worry"])


def test_a_header_that_is_no_csv_is_refused_as_a_row_is(tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "MOST_BYTES", 0)  # leaves the csv module's own limit
    path = write_csv(tmp_path / "raw.csv", "content,sentiment," + "x" * 200_000, [["no sleep", "worry", ""]])
    with pytest.raises(InputError, match=r"is not valid csv: field larger than field limit.*Get the file"):
        PUBLIC_FILES["cf_emotion"].read(path)


def test_an_archive_is_to_be_unpacked(tmp_path):
    (tmp_path / "smsspamcollection.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"is an archive\. Unpack it first"):
        prepare("sms_spam", tmp_path / "smsspamcollection.zip", tmp_path)


def sms(path, count):
    lines = [f"{('ham', 'spam')[number % 2]}\tmessage {number}\n" for number in range(count)]
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize(
    ("count", "sizes"), [(5574, (4459, 557, 558)), (17, (13, 2, 2)), (6000, (4459, 557, 558))]
)
def test_rows_are_permuted_once_and_cut_to_the_paper_s_sizes(tmp_path, count, sizes):
    done = prepare("sms_spam", sms(tmp_path / "raw", count), tmp_path / "data")
    assert tuple(done.sizes.values()) == sizes
    assert done.is_the_papers == (sizes == (4459, 557, 558))
    order = np.random.RandomState(0).permutation(count)[: sum(sizes)]
    texts = [
        text
        for split in done.sizes
        for text in pq.read_table(done.folder / f"{split}.parquet")["text"].to_pylist()
    ]
    assert texts == [f"message {number}" for number in order]
    surplus = "beyond the paper's 5,574 rows (drawn by seed 0)"
    assert {reason: len(rows) for reason, rows in done.dropped.items()} == (
        {surplus: count - 5574} if count > 5574 else {}
    )
    assert len(read_task(registered_task("sms_spam"), data_dir=str(tmp_path / "data")).train) == sizes[0]


def test_every_dropped_row_is_listed_with_its_reason(tmp_path):
    path = sms(tmp_path / "raw", 20)
    path.write_text(path.read_text() + "eggs\tno\nham\t \n")
    done = prepare("sms_spam", path, tmp_path / "data")
    assert done.dropped == {"label 'eggs' is none of the task's classes": (21,), "no text": (22,)}
    with (done.folder / "dropped.csv").open(newline="") as file:
        assert list(csv.reader(file))[1:] == [
            ["21", "label 'eggs' is none of the task's classes"],
            ["22", "no text"],
        ]


def test_a_class_that_fell_into_validation_or_test_alone_is_dropped(tmp_path):
    rows = [["x", f"Issue {number % 2}", f"text {number}"] for number in range(20)]
    last = int(np.random.RandomState(0).permutation(20)[-1])  # falls into test
    rows[last][1] = "Rare"
    path = write_csv(tmp_path / "c.csv", "Product,Issue,Consumer complaint narrative", rows)
    done = prepare("customer_complaints", path, tmp_path / "data")
    assert done.dropped == {"its class has no row in train": (last + 1,)}
    assert (done.sizes, done.classes) == ({"train": 16, "validation": 2, "test": 1}, 2)


@pytest.mark.parametrize("there", ["train.csv", "test.parquet", "dropped.csv"])
def test_nothing_is_written_over(tmp_path, there):
    (tmp_path / "data/sms_spam").mkdir(parents=True)
    (tmp_path / "data/sms_spam" / there).write_text("mine")
    with pytest.raises(InputError, match=f"has {there} already. Give another folder, or remove it first"):
        prepare("sms_spam", sms(tmp_path / "raw", 20), tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").rglob("*.*")] == [there]


def test_squad_s_files_become_rows_of_questions(tmp_path):
    def article(*questions):
        context = "Beyoncé sang in 2016."
        return {"title": "Beyoncé", "paragraphs": [{"context": context, "qas": list(questions)}]}

    asked = {"id": "q1", "question": "When?", "answers": [{"text": "2016", "answer_start": 16}] * 2}
    unanswered = {"id": "q2", "question": "Who?", "answers": []}
    for name, questions in (("train", [asked, unanswered]), ("dev", [asked])):
        content = {"version": "1.1", "data": [article(*questions)]}
        (tmp_path / f"{name}-v1.1.json").write_text(json.dumps(content))
    done = prepare("squad_v1", tmp_path, tmp_path / "data")
    assert done.sizes == {"train": 1, "validation": 1}
    assert done.dropped == {"train-v1.1.json: no answer": (2,)}
    table = pq.read_table(done.folder / "train.parquet")
    assert table.schema.equals(SQUAD_SCHEMA)
    (row,) = table.to_pylist()
    assert row == {
        "id": "q1",
        "title": "Beyoncé",
        "context": "Beyoncé sang in 2016.",
        "question": "When?",
        "answers_text": ["2016", "2016"],
        "answer_starts": [16, 16],
    }


def test_a_question_of_squad_s_that_was_cut_within_a_character_is_dropped_with_its_reason(tmp_path):
    answers = [{"text": "2016", "answer_start": 3}]
    asked = [
        {"id": f"q{n}", "question": f"When{end}?", "answers": answers} for n, end in enumerate(["", "\ud83d"])
    ]
    content = {"data": [{"title": "x", "paragraphs": [{"context": "In 2016.", "qas": asked}]}]}
    for name in ("train", "dev"):
        (tmp_path / f"{name}-v1.1.json").write_text(json.dumps(content))
    done = prepare("squad_v1", tmp_path, tmp_path / "data")
    assert done.sizes == {"train": 1, "validation": 1}
    reason = "half a character (a lone surrogate)"
    assert done.dropped == {f"train-v1.1.json: {reason}": (2,), f"dev-v1.1.json: {reason}": (2,)}


def test_json_that_is_not_squad_s_is_refused(tmp_path):
    (tmp_path / "train-v1.1.json").write_text('{"data": [{"title": "x"}]}')
    with pytest.raises(InputError, match="is not in SQuAD's format: no 'paragraphs' in it"):
        prepare("squad_v1", tmp_path, tmp_path / "data")


def test_the_shared_sms_data_is_what_its_public_file_gives(tmp_path):
    """The rows of the data set, put back into the file's order, come out split as they are there."""
    folder = MANIFEST_DATA / "sms_spam"
    if not folder.is_dir():
        pytest.skip("the shared data sets are not on this machine")
    splits = [
        pq.read_table(folder / f"{split}.parquet").to_pylist() for split in ("train", "validation", "test")
    ]
    rows = [row for split in splits for row in split]
    lines = [""] * len(rows)
    for row, place in zip(rows, np.random.RandomState(0).permutation(len(rows)), strict=True):
        lines[place] = f"{row['label']}\t{row['text']}\n"
    assert lines[0].startswith("ham\tGo until jurong point, crazy..")  # how the public file begins
    (tmp_path / "SMSSpamCollection").write_text("".join(lines), encoding="utf-8")
    done = prepare("sms_spam", tmp_path / "SMSSpamCollection", tmp_path / "data")
    assert done.is_the_papers
    assert not done.dropped
    for split, expected in zip(done.sizes, splits, strict=True):
        assert pq.read_table(done.folder / f"{split}.parquet").to_pylist() == expected
