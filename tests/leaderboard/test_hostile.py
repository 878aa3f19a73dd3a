"""What strangers may send. A small good submission is altered in more than a thousand ways: nothing is accepted with a
number that its predictions do not give, nothing but a `MubenchError` comes of it, and no code runs."""

import io
import json
import os
import pickle
import shutil
import stat
import sys
import tempfile
import zipfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mubench
from mubench.errors import MubenchError
from mubench.leaderboard import submission
from mubench.leaderboard.trust.limits import LIMITS
from mubench.leaderboard.trust.reading import read_run
from mubench.leaderboard.trust.untrusted import parse_json
from mubench.measure.metrics import METRICS, compute_all
from mubench.measure.predict import scorer
from submissions import Altered, tiny

TEXTS = [
    "../../x",
    "/etc/passwd",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "\\write18{id}",
    "[x](javascript:alert(1))",
    "\u202egnp.exe",
    "a\0b",
    "x" * 5_000,
    "\ud800",
    "\u200b",
    "a\u0301\u0301\u0301\u0301",
    "$(id)",
    "`id`",
    "'; DROP TABLE",
    "\x1b[2J",
    "a\nb",
    "{{7*7}}",
    "{0.__class__}",
    "%s%n",
    "file.py:Trap",
    "salun@0123456789ab",
    "",
    "NaN",
    "\u2028",
]
ODD = [
    float("nan"),
    float("inf"),
    float("-inf"),
    1e308,
    -1,
    2**70,
    -(2**70),
    0,
    True,
    None,
    [],
    {},
    [[[[]]]],
    {"": {"": 1}},
    [None] * 1000,
    0.5,
    "1",
    10**400,
]
BITS = {"submission.json": 0.3, "result.json": 0.3, "predictions.parquet": 0.4}
COUNTS = Counter()


class Trap:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch " + CANARY,)


CANARY = os.path.join(tempfile.gettempdir(), f"mubench-canary-{os.getpid()}")
WATCHED, SEEN = [False], []


def watch(event, arguments):
    """No check may unpickle, start a process, open a connection or load a library (whatever was not loaded before)."""
    if WATCHED[0] and event in (
        "pickle.find_class",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "subprocess.Popen",
        "socket.connect",
        "os.fork",
    ):
        SEEN.append((event, str(arguments)[:200]))


sys.addaudithook(watch)


@contextmanager
def watched():
    WATCHED[0] = True
    try:
        yield
    finally:
        WATCHED[0] = False
    assert not SEEN and not os.path.exists(CANARY)


def judged(path, kind):
    """Check a submission; when it is accepted, compute its numbers once more, apart from all that was checked."""
    with watched():
        try:
            list(submission.check(path))
        except MubenchError as error:
            COUNTS[kind, "refused"] += 1
            assert "\n" not in str(error) and len(str(error)) < 3_000 and str(error).isprintable()
            return False
    COUNTS[kind, "accepted"] += 1
    task = mubench.load_task("fashion")
    facts = {"num_labels": 10, "random_guess": 0.1, "scorer": scorer(task)}
    for file in [] if str(path).endswith(".zip") else Path(path).rglob("result.json"):
        record = json.loads(file.read_text())
        table = pq.read_table(file.parent / "predictions.parquet")
        frame = table.replace_schema_metadata(None).to_pandas()  # nobody vouches for what the file says of pandas
        values = compute_all(frame, facts | {"original_test_score": record["checkpoint"]["test_score"]})
        shown, claimed = read_run(file.parent).metrics, record["metrics"]  # of other packages' metrics nothing is shown
        assert {*shown} <= {*METRICS} and all(values[name] == shown[name] for name in shown)
        assert all(values[name] == pytest.approx(claimed[name], abs=1e-12) for name in {*claimed} & {*METRICS})
        truth = pd.read_parquet(next(tiny().rglob("predictions.parquet"))).set_index(["set", "index"])["target"]
        assert frame.set_index(["set", "index"])["target"].sort_index().equals(truth.sort_index())
        assert frame["score"].equals((frame["prediction"] == frame["target"]).astype(float))
    return True


@contextmanager
def altered():
    with tempfile.TemporaryDirectory() as folder:
        yield Altered(tiny(), folder)


SHARE = 1 if os.environ.get("MUBENCH_FUZZ") else 4


def fuzz(examples):
    """So many examples in `make test-slow`, a quarter of them otherwise."""
    return settings(
        max_examples=examples // SHARE,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def test_the_good_one_is_accepted():
    with altered() as good:
        assert judged(good.root, "good")


# -- more than a thousand mutations


@fuzz(350)
@given(
    st.sampled_from(sorted(BITS)),
    st.sampled_from(["flip", "cut", "drop", "insert", "zero"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 255),
    st.booleans(),
)
def test_bytes(name, act, where, value, sealed):
    with altered() as good:
        data = good.path(name).read_bytes()
        at = int(where * len(data))
        new = {
            "flip": data[:at] + bytes([data[at] ^ value]) + data[at + 1 :],
            "cut": data[:at],
            "drop": data[:at] + data[at + value :],
            "insert": data[:at] + bytes([value]) * value + data[at:],
            "zero": data[:at] + bytes(value) + data[at + value :],
        }[act]
        good.path(name).write_bytes(new)
        if sealed and name.endswith("parquet"):
            good.seal(new, honest=False)
        judged(good.root, "bytes")


def paths(value, at=()):
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*at, key))


FIELDS = [
    (name, path)
    for name in ("submission.json", "result.json")
    for path in paths(Altered.json(type("", (), {"path": lambda self, n: next(tiny().rglob(n))})(), name))
    if path
]


@fuzz(500)
@given(
    st.sampled_from(FIELDS),
    st.sampled_from(["replace", "replace", "replace", "delete", "add", "twice", "deep"]),
    st.sampled_from(TEXTS + ODD),
)
def test_json(field, act, value):
    (name, path), text = field, None
    with altered() as good:
        record = good.json(name)
        inner = record
        for key in path[:-1]:
            inner = inner[key]
        if act == "delete":
            del inner[path[-1]]
        elif act == "add" and isinstance(inner, dict):
            inner[value if isinstance(value, str) else "extra"] = value
        elif act == "deep":
            inner[path[-1]] = "DEEP"
            text = json.dumps(record).replace('"DEEP"', "[" * 10_000 + "]" * 10_000)
        elif act == "twice" and isinstance(path[-1], str):
            text = json.dumps(record).replace(f'"{path[-1]}":', f'"{path[-1]}": {json.dumps(value)}, "{path[-1]}":', 1)
        else:
            inner[path[-1]] = value
        good.path(name).write_text(text or json.dumps(record), errors="surrogatepass")
        judged(good.root, "json")


def column(name, value):
    return lambda f, i: f.assign(**{name: [value if j == i else v for j, v in enumerate(f[name])]})


def each(frame, change):
    """The logits of each row that has some, changed."""
    return [row if row is None else change(row) for row in frame["logits"]]


FRAMES = {
    "a forget row without logits": lambda f, i: f.assign(
        logits=f["logits"].where(f.index != f.index[f["set"] == "forget"][i % 5], None)
    ),
    "without a row": lambda f, i: f.drop(i),
    "a row twice": lambda f, i: pd.concat([f, f.iloc[[i]]]),
    "two rows swapped": lambda f, i: f.assign(target=np.r_[f["target"][i:], f["target"][:i]]),
    "in another order": lambda f, i: f.sample(frac=1, random_state=i),
    "scores moved": lambda f, i: f.assign(score=np.roll(f["score"], i + 1)),
    "other ids": lambda f, i: f.assign(index=f["index"] + i + 1),
    "negative ids": lambda f, i: f.assign(index=-f["index"]),
    "ids as floats": lambda f, i: f.astype({"index": float}),
    "ids as text": lambda f, i: f.astype({"index": str}),
    "losses as text": lambda f, i: f.astype({"loss": str}),
    "half precision": lambda f, i: f.astype({"loss": "float16"}),
    "small ids": lambda f, i: f.astype({"index": "int8"}),
    "a column more": lambda f, i: f.assign(extra=pickle.dumps(Trap())),
    "objects": lambda f, i: f.assign(prediction=[pickle.dumps(Trap())] * len(f)),
    "dates": lambda f, i: f.assign(target=pd.Timestamp(i)),
    "another set": column("set", "extra"),
    "no set": column("set", None),
    "a set with markup": column("set", "<script>"),
    "empty": lambda f, i: f.iloc[:0],
    "wider": lambda f, i: f.assign(logits=each(f, lambda v: np.r_[v, v])),
    "ragged": lambda f, i: f.assign(logits=each(f, lambda v: v[: 10 - (v is f["logits"].dropna().iloc[i % 5])])),
    "without logits": lambda f, i: f.assign(logits=None),
    "logits turned": lambda f, i: f.assign(logits=each(f, lambda v: v[::-1])),
    "all right": lambda f, i: f.assign(score=1.0, prediction=f["target"]),
    "categories": lambda f, i: f.astype({"set": "category"}),
    **{
        f"{name} {value}": column(name, value)
        for name in ("target", "prediction", "score", "loss", "confidence")
        for value in (float("nan"), float("inf"), -1, 1e308, 2**62, 0.5, None)
    },
    **{
        f"without {name}": lambda f, i, name=name: f.drop(columns=name)
        for name in ("set", "index", "target", "score", "loss", "incompetent")
    },
}


@fuzz(300)
@given(st.sampled_from(sorted(FRAMES)), st.integers(0, 19), st.booleans())
def test_predictions(change, row, honest):
    """``honest``: with the metrics that the altered predictions give, as somebody would who knows the rules."""
    with altered() as good:
        try:
            good.frame(lambda frame: FRAMES[change](frame, row), honest)
        except Exception:  # Parquet cannot hold it, or the metrics cannot be computed
            good.frame(
                lambda frame: FRAMES[change](frame, row), honest=False
            ) if honest and "objects" not in change else None
        accepted = judged(good.root, "predictions")
        assert (
            not accepted
            or honest
            or change in ("in another order", "without incompetent", "two rows swapped")
            or row == 19
        )


TRAPS = {
    "pickle": lambda r: (r / "trap.pkl").write_bytes(pickle.dumps(Trap())),
    "pickled predictions": lambda r: next(r.rglob("*.parquet")).write_bytes(pickle.dumps(Trap())),
    "pickled record": lambda r: next(r.rglob("result.json")).write_bytes(pickle.dumps(Trap())),
    "pickled weights": lambda r: (next(r.rglob("model")) / "pytorch_model.bin").write_bytes(pickle.dumps(Trap())),
    "code": lambda r: (r / "conftest.py").write_text("raise SystemExit"),
    "configuration": lambda r: (next(r.rglob("model")) / "config.json").write_text(
        '{"auto_map": {"AutoModel": "trap.Trap"}}'
    ),
    "a link": lambda r: (r / "results" / "passwd").symlink_to("/etc/passwd"),
    "a linked folder": lambda r: (r / "results" / "x").symlink_to("/"),
    "a linked record": lambda r: [
        p := next(r.rglob("result.json")),
        p.rename(r.parent / "away"),
        p.symlink_to(r.parent / "away"),
    ],
    "a linked submission": lambda r: [
        (r / "submission.json").rename(r.parent / "s"),
        (r / "submission.json").symlink_to(r.parent / "s"),
    ],
    "a pipe": lambda r: [
        next(r.rglob("result.json")).unlink(),
        os.mkfifo(next(r.rglob("model")).parent / "result.json"),
    ],
    "endless": lambda r: [p := next(r.rglob("*.parquet")), p.unlink(), p.symlink_to("/dev/zero")],
    "a folder for a file": lambda r: [p := next(r.rglob("*.parquet")), p.unlink(), p.mkdir()],
    "a large record": lambda r: next(r.rglob("result.json")).write_text(" " * (LIMITS.json + 1)),
    "sparse": lambda r: os.truncate(next(r.rglob("*.parquet")), 2**40),
    "a hidden file": lambda r: (r / ".bashrc").write_text("id"),
    "another name": lambda r: r.rename(r.parent / "other") and shutil.copytree(r.parent / "other", r / "tiny"),
    "moved": lambda r: [p := next(r.rglob("result.json")).parent, p.rename(p.parent / "0123456789ab")],
    "no submission": lambda r: (r / "submission.json").unlink(),
    "no result": lambda r: shutil.rmtree(r / "results"),
    "a result twice": lambda r: shutil.copytree(r / "results/fashion", r / "results/people"),
    "strange names": lambda r: (r / "results" / "\u202egnp\n.exe").write_text(""),
    "forged": lambda r: (r / "verified.json").write_text("[" * 100_000),
}


@pytest.mark.parametrize("trap", sorted(TRAPS))
def test_files(trap):
    with altered() as good:
        TRAPS[trap](good.root)
        assert judged(good.root, "files") == (trap == "forged")  # which is not read, only replaced


# -- archives


def packed(folder, change=lambda archive: None, **options):
    path = Path(folder) / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for file in sorted(p for p in tiny().rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(tiny().parent))
        change(archive)
    return path


def entry(name, data=b"x", **fields):
    def add(archive):
        info = zipfile.ZipInfo(name)
        for field, value in fields.items():
            setattr(info, field, value)
        archive.writestr(info, data)

    return add


RUN = "tiny/results/fashion/resnet/neggrad/5/0123456789ab/"
ARCHIVES = {
    "out of the folder": entry("tiny/../../out"),
    "absolute": entry("/etc/cron.d/x"),
    "of Windows": entry("tiny\\..\\x"),
    "a drive": entry("C:/x"),
    "a second folder": entry("other/submission.json"),
    "twice": entry("tiny/submission.json"),
    "twice but for case": entry("tiny/Submission.json"),
    "a link": entry(RUN + "result.json", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16),
    "a device": entry(RUN + "result.json", external_attr=(stat.S_IFCHR | 0o777) << 16),
    "not of it": entry("tiny/setup.py"),
    "with a level": entry("tiny/verified.json", b"{}"),
    "a bomb": entry(RUN + "predictions.parquet", bytes(50_000_000), compress_type=zipfile.ZIP_DEFLATED),
    "too large": entry(RUN + "result.json", os.urandom(LIMITS.json + 1)),
    "a rare compression": entry(RUN + "result.json", compress_type=zipfile.ZIP_LZMA),
    "a comment": lambda archive: setattr(archive, "comment", b"PK\5\6" + bytes(18)),
    "control characters": entry("tiny/\x1b[2J"),
}


@pytest.mark.parametrize("what", sorted(ARCHIVES))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives(what, tmp_path):
    assert not judged(packed(tmp_path, ARCHIVES[what]), "archives") and [p.name for p in tmp_path.iterdir()] == [
        "x.zip"
    ]


def test_a_good_archive(tmp_path):
    assert judged(packed(tmp_path, lambda archive: archive.mkdir("tiny/results/")), "archives")


def test_a_nameless_entry(tmp_path):
    path = packed(tmp_path, entry("x"))
    data = path.read_bytes()
    at = data.rindex(b"PK\1\2")
    path.write_bytes(
        data[: at + 28] + b"\0" + data[at + 29 : at + 46] + data[at + 47 :]
    )  # its name cut out of the directory, …
    data = bytearray(path.read_bytes())
    data[-10] -= 1  # … which is a byte shorter
    path.write_bytes(data)
    assert not judged(path, "archives")


def test_encrypted_entries_and_long_directories(tmp_path):
    path = packed(tmp_path)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(MubenchError, match="encrypted"):
        list(submission.check(path))
    for change, limits in (
        (b"\xff\xff", LIMITS),
        (None, replace(LIMITS, files=1)),
        (None, replace(LIMITS, total=1000)),
    ):
        data = packed(tmp_path).read_bytes()
        path.write_bytes(data if change is None else data[:-12] + change + data[-10:])
        with pytest.raises(MubenchError, match="entries|no plain|cannot be unpacked"):
            list(submission.check(path, limits=limits))


@fuzz(150)
@given(
    st.floats(0, 1, exclude_max=True), st.integers(1, 255), st.sampled_from(["flip", "cut", "double"]), st.booleans()
)
def test_bytes_of_archives(where, value, act, tail):
    with tempfile.TemporaryDirectory() as folder:
        path = packed(folder)
        data = path.read_bytes()
        at = int(where * len(data)) if not tail else len(data) - 1 - int(where * 900)
        path.write_bytes(
            {
                "flip": data[:at] + bytes([data[at] ^ value]) + data[at + 1 :],
                "cut": data[:at],
                "double": data[:at] + data,
            }[act]
        )
        judged(path, "archives")


# -- sizes


def parquet(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, dictionary_pagesize_limit=2**24)
    return buffer.getvalue()


def test_a_billion_rows_in_a_small_file_are_not_decoded():
    with altered() as good:
        run = pa.array(np.zeros(2_000_000, "int64"))
        buffer = io.BytesIO()
        columns = {
            "set": pa.array(["test"] * 2_000_000),
            "index": run,
            "target": run,
            "prediction": run,
            "score": run.cast("float64"),
            "loss": run.cast("float32"),
        }
        pq.write_table(pa.table(columns), buffer)
        assert len(buffer.getvalue()) < 100_000
        good.seal(buffer.getvalue(), honest=False)
        with pytest.raises(MubenchError, match="2,000,000 rows are announced, 1 to 1,000,000 are read"):
            read_run(good.result)


def test_what_decodes_to_more_than_it_announces_meets_a_bound_on_memory():
    """A long text in a dictionary is announced once and decoded for every row."""
    with altered() as good:
        n, text = 400, "x" * 300_000
        zeros = pa.array(np.zeros(n, "int64"))
        good.seal(
            parquet(
                set=pa.array(["test"] * n),
                index=pa.array(np.arange(n)),
                target=pa.array([text] * n),
                prediction=pa.array([text] * n),
                score=zeros.cast("float64"),
                loss=zeros.cast("float32"),
            ),
            honest=False,
        )
        assert good.path("predictions.parquet").stat().st_size < 100_000
        with pytest.raises(MubenchError, match="is no use .ArrowMemoryError|is no use .MemoryError"):
            read_run(good.result, replace(LIMITS, decoded=2**26))
        with pytest.raises(MubenchError, match="more than 20,000 characters"):
            read_run(good.result)


@pytest.mark.parametrize(
    "data, complaint",
    [
        (b"[" * 100_000, "nested|recursion"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": 1e999}', "beyond 1e24"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b'"\\ud800"', "U\\+D800"),
        (b"\xff", "utf-8"),
        (b'"' + b"a" * 5000 + b'"', "5,000 characters"),
        ('"\u202e"'.encode(), "U\\+202E"),
        (b'{"\\u0000": 1}', "U\\+0000"),
        (b"[" * 13 + b"]" * 13, "more than 12 deep"),
    ],
)
def test_json_is_read_with_suspicion(data, complaint):
    with pytest.raises(MubenchError, match=complaint):
        parse_json(data, "x.json")


@pytest.mark.parametrize("field", ["paper", "code"])
@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        'https://a.b/"onclick=x',
        "https://a.b/<x>",
        "http://a.b",
        "//a.b",
        "https://a.b/ x",
        "https://a@b\\c",
        "https://[x](y)",
    ],
)
def test_links_are_links(field, link):
    with altered() as good:
        good.edit("submission.json", **{field: link})
        with pytest.raises(MubenchError, match=f"submission.json: {field}"):
            list(submission.check(good.root))


@pytest.mark.parametrize(
    "command", ["mubench run fashion salun; id", "mubench run $(id)", "sudo mubench", "mubench run 'x", "mubench  run"]
)
def test_a_command_to_paste_is_one_command(command):
    with altered() as good:
        good.edit(command=command)
        with pytest.raises(MubenchError, match="command"):
            read_run(good.result)


def test_options_of_metrics_cannot_reach_further():
    for changes in (
        {"task__metric_options": {"cache_dir": "/tmp/evil"}},
        {"task__also": ["scorer"]},
        {"task__metric": "os.system"},
        {"spec__ratio": "1E-999999999", "split__name": "1"},
        {"spec__params": {"reference": "x"}},
        {"spec__params": {"self": 1}},
        {"spec__split_file": "/dev/zero"},
        {"spec__seed": 2**70},
    ):
        with altered() as good:
            good.edit(**changes)
            assert not judged(good.root, "json"), changes


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"method__fingerprint": "z" * 16}, "method.fingerprint"),
        ({"method__fingerprint": None}, "method.fingerprint is not said"),
        ({"engine": None}, "engine is not said"),
        ({"engine": -1}, "engine"),
        ({"engine": "1"}, "engine"),
        ({"budget": None}, "budget is not said"),
        ({"budget__examples": -1}, "budget.examples"),
        ({"budget__more": 1}, "budget.more"),
        ({"checkpoint__seed": 3}, "seed of the original is '0', the record's 3"),
        ({"checkpoint__seed": None}, "seed of the original"),
        ({"environment__device": "tpu"}, "environment.device"),
        ({"environment__memory_bytes": -1}, "environment.memory_bytes"),
        ({"environment__calibration_seconds": 0.0}, "calibration_seconds"),
        ({"migrated": 1}, "migrated"),
        ({"schema": 1}, "schema 2 says and schema 1 does not"),
        ({"schema": 3}, "schema"),
    ],
)
def test_what_schema_2_says_is_of_known_types_and_ranges(changes, complaint):
    with altered() as good:
        good.edit(**changes)
        with pytest.raises(MubenchError, match=complaint):
            read_run(good.result)


@pytest.mark.parametrize("name", ["engine", "budget", "method.fingerprint", "checkpoint.seed", "environment.device"])
def test_what_schema_2_says_may_not_be_left_out(name):
    with altered() as good:
        record = good.json()
        *parents, last = name.split(".")
        del (record[parents[0]] if parents else record)[last]
        good.path("result.json").write_text(json.dumps(record))
        with pytest.raises(MubenchError, match=f"{name} is what schema 2 says and schema 1 does not"):
            read_run(good.result)


def test_counts():
    """Last: the figures, and that there were enough of them."""
    total = Counter()
    for (_, outcome), count in COUNTS.items():
        total[outcome] += count
    print(dict(sorted(COUNTS.items())), dict(total))
    if {"bytes", "json", "predictions", "files", "archives"} <= {kind for kind, _ in COUNTS}:
        assert sum(total.values()) >= 1_000 // SHARE and total["refused"] > 0.8 * sum(total.values())
