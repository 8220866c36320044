"""Ground truths: what is read from JSON and pickles, and what is refused with a sentence."""

import copy
import os
import pickle
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delf import pickled
from delf.errors import EvaluationError
from delf.evaluation import read_ground_truth


def check_content(truth):
    assert truth.images == ("a", "b", "c", "d", "e")
    assert truth.queries == ("p", "q")
    assert len(truth) == 2
    assert truth.entries[0].box == (0, 0.5, 10, 20)
    assert truth.entries[1].box is None
    assert {label: found.tolist() for label, found in truth.entries[1].labels.items()} == {
        "easy": [], "hard": [3, 2], "junk": []}
    assert truth.entries[0].indices(("easy", "hard")).tolist() == [0, 1]
    assert truth.entries[0].labels["easy"].dtype == np.int64


def test_json(write, content):
    check_content(read_ground_truth(write(content)))


def test_classic_without_names_and_junk(write):
    truth = read_ground_truth(write({"gnd": [{"ok": [3, 99]}]}))
    assert truth.images is None
    assert truth.entries[0].labels["ok"].tolist() == [3, 99]
    assert truth.entries[0].labels["junk"].tolist() == []


def as_numpy(content):
    """The content with numpy wherever a benchmark's pickle may have it, big-endian and empty arrays included."""
    first, second = copy.deepcopy(content["gnd"])
    first = {"easy": np.array(first["easy"], ">i4"), "hard": [np.int64(0)],
             "junk": np.array(first["junk"], "u1"), "bbx": np.array(first["bbx"])}
    second = {"easy": np.array([], int), "hard": np.array(second["hard"], object), "junk": ()}
    return {"imlist": np.array(content["imlist"]), "qimlist": np.array(content["qimlist"], "S1"),
            "gnd": [first, second]}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("convert", [lambda content: content, as_numpy])
@pytest.mark.parametrize("module", [b"numpy._core", b"numpy.core"])
def test_pickle_of_every_protocol_and_numpy(write, content, protocol, convert, module):
    data = pickle.dumps(convert(content), protocol)
    if protocol < 4:  # from 4 on, names are preceded by their length
        data = data.replace(b"numpy._core", module)
    check_content(read_ground_truth(write(data, "gnd.pkl")))


def test_pickle_of_protocol_4_with_the_old_module_name(write, content):
    data = pickle.dumps(as_numpy(content), 4)
    unframed = pickle.PROTO + b"\x04" + data[11:]  # a frame has a length, which would no longer be right
    old = unframed.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
    assert old != unframed
    check_content(read_ground_truth(write(old, "gnd.pkl")))


def test_pickle_of_python_2(write):
    # What Python 2 writes: byte strings for names, and old opcodes.
    data = (b"\x80\x02}q\x00(U\x06imlistq\x01]q\x02(U\x01aU\x01beU\x03gndq\x03]q\x04}q\x05"
            b"(U\x02okq\x06]q\x07K\x01aU\x04junkq\x08]q\x09K\x00auau.")
    assert pickle.loads(data) == {"imlist": ["a", "b"], "gnd": [{"ok": [1], "junk": [0]}]}
    truth = read_ground_truth(write(data, "gnd_old.pkl"))
    assert truth.images == ("a", "b")
    assert truth.entries[0].labels["ok"].tolist() == [1]


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_runs_nothing(tmp_path, write, content, protocol):
    trace = tmp_path / "trace"
    content["imlist"] = [Calls(os.system, f"touch {trace}"), Calls(os.mkdir, str(trace)), Calls(eval, "1")]
    with pytest.raises(EvaluationError, match=r"gnd\.pkl.*system"):
        read_ground_truth(write(pickle.dumps(content, protocol), "gnd.pkl"))
    assert not trace.exists()


@pytest.mark.parametrize("value", [Fraction(1, 2), {1, 2}, {1: 2}, slice(1), np.array([1 + 2j]),
                                   np.zeros(2, "datetime64[s]"), np.zeros(2, [("x", int)]),
                                   np.random.default_rng(0)])
def test_pickle_of_anything_else_is_refused(write, content, value):
    content["other"] = value
    with pytest.raises(EvaluationError, match=r"gnd\.pkl is not a ground-truth pickle"):
        read_ground_truth(write(pickle.dumps(content), "gnd.pkl"))


NUMBERS = b"B" + (120_000).to_bytes(4, "little") + bytes(120_000)  # many bytes
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R"
TYPED = b"cnumpy\ndtype\n(X\x02\x00\x00\x00%btR"
STATE = b"(K\x01K\x00h\x01K\x00h\x00tb"  # from what is kept in the places 0 and 1
BOMBS = {  # of 250,000 bytes or less each
    "lists": b"]" * 250_000, "dictionaries": b"}" * 250_000, "remembered": b"N" + b"\x94" * 250_000,
    "remembered at places of their own": b"N" + b"".join(b"r" + n.to_bytes(4, "little") for n in range(50_000)),
    "tuples in tuples": b")" + b"\x85" * 250_000, "one-letter lists": b"](" + b"]" * 250_000 + b"e",
    "a list that is appended to others": b"](" + b"N" * 1000 + b"eq\x00" + b"](h\x00h\x00h\x00e" * 25_000,
    "a dictionary again and again": b"}q\x00" + b"(X\x01\x00\x00\x00aNX\x01\x00\x00\x00bNd" * 15_000,
    "a list doubled and doubled": b"]" + b"".join(
        b"q" + bytes([n]) + b"](h" + bytes([n]) + b"h" + bytes([n]) + b"e" for n in range(200)),
    "arrays of the same numbers": NUMBERS + b"q\x00" + TYPED % b"i1" + b"q\x01" + (ARRAY + STATE) * 1700,
    "arrays of the same texts": NUMBERS + b"q\x00" + TYPED % b"S2" + b"q\x01" + (ARRAY + STATE) * 1700,
    "arrays of the same objects": (b"](" + b"N" * 120_000 + b"eq\x00" + TYPED % b"O8" + b"q\x01"
                                   + (ARRAY + STATE) * 1700),
    "numbers of an array": NUMBERS + b"q\x00" + TYPED % b"i8" + b"q\x01" + (
        b"cnumpy.core.multiarray\nscalar\n(h\x01h\x00tR" * 2_500),
    "bytes from text": (b"X" + (120_000).to_bytes(4, "little") + b"a" * 120_000 + b"q\x00"
                        + b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR" * 2_500),
    "types": TYPED % b"i8" * 8_000, "functions": b"cnumpy\nndarray\n" * 15_000,
    "long numbers": b"\x8a\xff" + b"\x7f" * 255 + b"q\x00" + b"2" * 220_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_pickle_takes_no_more_than_some_times_its_size(write, name):
    path = write(b"\x80\x02" + BOMBS[name] + b".", "gnd.pkl")
    size = path.stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(EvaluationError, match=r"gnd\.pkl"):
            read_ground_truth(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 * size + (6 << 20)


@pytest.mark.parametrize("inner", [b"](" + b"K\x01" * 50_000 + b"e", b"](" + b"]" * 20_000 + b"e"])
def test_what_is_shared_is_counted_wherever_it_is(write, inner):
    """Each entry of a ground truth becomes arrays of its own, though all are one list in the file."""
    entry = b"}(X\x02\x00\x00\x00ok" + inner + b"uq\x00"
    data = b"\x80\x02}X\x03\x00\x00\x00gnd](" + entry + b"h\x00" * 100_000 + b"es."
    with pytest.raises(EvaluationError, match="it says the same so often"):
        read_ground_truth(write(data, "gnd.pkl"))


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("convert", [list, np.array, lambda values: np.array(values, np.int32)])
def test_large_ground_truths_are_read(write, protocol, convert):
    """As many images as the largest benchmarks have, with names that are short and lists that are long or empty."""
    rng = np.random.default_rng(0)
    shared = convert(range(100))
    gnd = [{"easy": convert(rng.permutation(60_000)[:400].tolist()), "hard": shared, "junk": convert([]),
            "bbx": [0.5, 1.0, 20.0, 30.0]} for _ in range(70)]
    gnd = [{**one, "easy": convert(sorted(set(one["easy"]) - set(range(100))))} for one in gnd]
    content = {"imlist": [f"n{number}" for number in range(60_000)], "qimlist": ["n1"] * 70, "gnd": gnd}
    truth = read_ground_truth(write(pickle.dumps(content, protocol), "gnd.pkl"))
    assert (len(truth), len(truth.images), len(truth.entries[3].labels["hard"])) == (70, 60_000, 100)


@pytest.mark.parametrize("data", [
    b"\x80\x04r\xff\xff\xff\xff.",  # a memo of 4 billion places
    b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",  # a bytearray of a terabyte
    b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.",  # bytes of a terabyte
    b"\x80\x04}" + b")" + b"\x85" * 300_000 + b"K\x01s.",  # a key that is a tuple in a tuple in a tuple ...
    b"\x80\x04" + b"]" * 300_000 + b"a" * 299_999 + b".",  # nested lists
    b"\x80\x04]\x94h\x00a.",  # a list in itself
    b"\x80\x04(cnumpy\ndtype\n(X\x02\x00\x00\x00i8tRb.",
    b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n(tR(K\x01K\x01K\x01K\x01K\x01tb.",
    b"\x80\x04cnumpy\nndarray\n)R.",
    b"\x80\x04N.", b"\x80\x04.", b"\x80\x04", b"\x80", b"",
])
def test_hostile_pickles(write, data):
    with pytest.raises(EvaluationError, match=r"gnd\.pkl"):
        read_ground_truth(write(data, "gnd.pkl"))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_pickles_give_a_value_or_a_value_error(data):
    content = {"gnd": [{"ok": np.array([1, 2]), "bbx": [np.float64(1)]}], "imlist": np.array(["a", "b"])}
    good = pickle.dumps(content, data.draw(st.integers(0, pickle.HIGHEST_PROTOCOL)))
    at = data.draw(st.integers(0, len(good)))
    bad = good[:at] + data.draw(st.binary(max_size=4)) + good[at + data.draw(st.integers(0, 4)):]
    try:
        pickled.loads(bad)
    except ValueError as error:
        assert str(error)


BAD_INDICES = [[5], [-1], [10 ** 400], [1.0], [True], [None], ["a"], [[1]], [float("nan")], [float("inf")],
               [1, 1], "12", 1, None, {"0": 1}]


@pytest.mark.parametrize("values", BAD_INDICES)
def test_bad_indices(write, content, values):
    content["gnd"][1]["hard"] = values
    with pytest.raises(EvaluationError, match=r"'hard' for query 1 \(from 0\) of .*file\.json"):
        read_ground_truth(write(content))


@pytest.mark.parametrize("box", [[0, 0, 0, 5], [0, 5, 9, 5], [0, 0, 1], [0, 0, 1, float("nan")],
                                 [0, 0, "1", 1], [0, 0, float("inf"), 1], [0, 0, True, 1],
                                 [0, 0, 10 ** 400, 1], "abcd", 7, {}, []])
def test_bad_boxes(write, content, box):
    content["gnd"][0]["bbx"] = box
    with pytest.raises(EvaluationError, match=r"'bbx' for query 0 .*file\.json"):
        read_ground_truth(write(content))


@pytest.mark.parametrize("change", [
    {"gnd": []}, {"gnd": None}, {"gnd": {}}, {"gnd": "ab"}, {"gnd": [1, 2]}, {"gnd": [{}, {}]},
    {"gnd": [{"junk": [1]}] * 2}, {"gnd": [{"easy": [1], "hard": [1], "junk": []}] * 2},
    {"qimlist": ["p"]}, {"qimlist": "pq"}, {"imlist": [1, 2]}, {"imlist": ["a", "a", "b", "c", "d"]}, {"imlist": []},
])
def test_bad_structure(write, content, change):
    with pytest.raises(EvaluationError, match=r"file\.json"):
        read_ground_truth(write({**content, **change}))


@pytest.mark.parametrize("data", [
    b"", b"{", b'{"gnd": [{"ok": [1', b"[]", b"null", b"\xff\xfe\x00", bytes(range(256)), b"NaN",
    b"[" * 100_000, b'{"gnd":' * 50_000, b'{"gnd": ' + b"9" * 5000 + b"}",
    b'{"gnd": [{"ok": [' + b"9" * 4000 + b"]}]}", b"\x00" * 100,
])
def test_hostile_json(write, data):
    with pytest.raises(EvaluationError, match=r"file\.json"):
        read_ground_truth(write(data))


KEYS = st.sampled_from(["gnd", "imlist", "qimlist", "ok", "easy", "hard", "junk", "bbx"])


def test_files_that_are_none(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    for path in (tmp_path, tmp_path / "missing", fifo, "a\0b", "/dev/zero"):
        with pytest.raises(EvaluationError):
            read_ground_truth(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                         lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner)))
def test_any_json_is_read_or_refused(write, json):
    try:
        read_ground_truth(write(json))
    except EvaluationError as error:
        assert "file.json" in str(error)


def test_the_image_that_a_query_was_cut_from(write):
    truth = read_ground_truth(write({"imlist": ["a", "b", "c"], "qimlist": ["b", "z"],
                                     "gnd": [{"ok": [0, 1], "junk": [2], "bbx": [0, 0, 5, 5]}, {"ok": [1]}]}))
    assert [truth.own_image(query) for query in (0, 1)] == [1, None]
    without = truth.without_own_images()
    assert [{label: indices.tolist() for label, indices in entry.labels.items()} for entry in without.entries] == [
        {"ok": [0], "junk": [2, 1]}, {"ok": [1], "junk": []}]
    assert without.entries[0].box == (0, 0, 5, 5)
    assert (without.images, without.queries, without.source) == (truth.images, truth.queries, truth.source)
    assert truth.entries[0].labels["ok"].tolist() == [0, 1], "the truth itself is as it was"
    nameless = read_ground_truth(write({"gnd": [{"ok": [0], "junk": []}]}))
    assert nameless.own_image(0) is None
