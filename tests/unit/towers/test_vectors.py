import os

import numpy as np
import pytest
from embeddings import toy_vectors

from pipelines.errors import InputError
from pipelines.towers.vectors import WordVectors, read_vectors, vector_tensors, vectors_in


def read(tmp_path, text):
    path = tmp_path / "vectors.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_vectors("glove", str(path))


@pytest.mark.parametrize(
    "text",
    [
        "good 1 0.5\nbad -1 2e-1\n",  # GloVe
        "2 2\ngood 1 0.5 \nbad -1 2e-1 \n",  # fastText: a first line, and spaces at the ends
        "good\t1\t0.5\r\nbad\t-1\t2e-1",  # tabs, other line ends, none at the end
    ],
)
def test_a_word_and_its_numbers_stand_on_a_line(tmp_path, text):
    vectors = read(tmp_path, text)
    assert vectors.words == ("good", "bad")
    np.testing.assert_array_equal(vectors.table, np.array([[1, 0.5], [-1, 0.2]], dtype=np.float32))


def test_a_number_may_be_a_word(tmp_path):
    assert read(tmp_path, "2019 3 4\n10 5 6\n").words == ("2019", "10")
    assert read(tmp_path, "good 1 2\n. . . 3 4\n").words == ("good", ". . .")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "it has no vectors"),
        ("2 2\n", "it has no vectors"),
        ("good 1 2\nbad 1\n", "line 2: needs a word and 2 numbers, and has 2 field(s)"),
        ("good 1 2\n\nbad 1 2\n", "line 2: needs a word and 2 numbers"),
        ("good\n", "line 1: needs a word and numbers"),
        ("good 1 2\nbad 1 x\n", "line 2: could not convert string to float: 'x' (the word is 'bad')"),
        ("good 1 nan\n", "line 1: the vector of 'good' has a number that is not finite"),
        ("good 1 1e300\n", "line 1: the vector of 'good' has a number that is not finite"),
        ("good 1 2\nbad 1 2\ngood 3 4\n", "line 3: has the word 'good' again, after line 1"),
        ("3 2\ngood 1 2\nbad 1 2\n", "its first line announces 3 vectors, and it has 2"),
        (b"\x80\x04\x95\xff\xfe", "it is not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_such_is_refused_with_its_line(tmp_path, text, rule):
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert caught.value.key == "vectors.glove"
    assert caught.value.value == str(tmp_path / "vectors.txt")
    assert rule in caught.value.rule
    assert caught.value.fix


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_vectors("glove", str(tmp_path / "nowhere.txt"))


def test_a_fingerprint_is_of_words_and_numbers_alone():
    one = toy_vectors()
    assert toy_vectors(name="other").fingerprint == one.fingerprint
    other = one.table.copy()
    other[3, 2] += 1
    assert WordVectors("glove", one.words, other).fingerprint != one.fingerprint
    assert WordVectors("glove", one.words[::-1], one.table).fingerprint != one.fingerprint


def test_vectors_travel_in_a_bundle():
    one = toy_vectors()
    back = vectors_in("glove", vector_tensors(one))
    assert (back.words, back.fingerprint) == (one.words, one.fingerprint)


def test_vectors_that_lost_a_word_on_the_way_are_noticed():
    tensors = vector_tensors(toy_vectors())
    tensors["vectors.table"] = tensors["vectors.table"][1:]
    with pytest.raises(ValueError, match="is not for 8 words"):
        vectors_in("glove", tensors)


def test_a_pipe_a_device_and_a_folder_are_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "device.txt").symlink_to("/dev/zero")
    (tmp_path / "folder.txt").mkdir()
    for name in ("pipe", "device", "folder"):
        with pytest.raises(InputError, match=r"is not a plain file\. Name a plain text file of word vectors"):
            read_vectors("glove", str(tmp_path / f"{name}.txt"))


def test_a_file_over_the_bound_is_refused_unread(tmp_path):
    with (tmp_path / "vectors.txt").open("wb") as file:
        file.truncate(10**12)  # takes no place on the disk
    with pytest.raises(InputError, match="has 1,000,000,000,000 bytes, and 16,000,000,000 are the most"):
        read_vectors("glove", str(tmp_path / "vectors.txt"))


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "glove.840B.txt").write_text("good 1 0.5\n")
    (tmp_path / "vectors.txt").symlink_to(tmp_path / "glove.840B.txt")
    assert read_vectors("glove", str(tmp_path / "vectors.txt")).words == ("good",)
