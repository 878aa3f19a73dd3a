"""The index of a folder of results: what was computed of each, in one file beside them, so that nothing is read twice.

A line holds a checksum, a hash of the code, the result's folder, the references it was compared with, what the file
system says of its files, what the record says, and what came of it. It is believed where the checksum is right, the
code is that of now, and the file system says that nobody touched the files since: not their inodes, sizes and times, of
which a copy has others and nobody can choose all. Whatever else it is, it is as if the line were not there: the files
are read and everything is computed again.

Lines are only ever appended, each writer's at once. Where most are of no use any more, the file is written anew.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import time
import zlib
from importlib.metadata import version
from pathlib import Path

from pydantic_core import from_json

from mubench import records, registry, spec, splits
from mubench.cache import whole
from mubench.errors import MubenchError
from mubench.fingerprint import fingerprint
from mubench.leaderboard import trust
from mubench.leaderboard.stored import StoredRun, submission_of
from mubench.leaderboard.trust.layout import SUBMISSION
from mubench.measure import metrics
from mubench.records.predictions import PREDICTIONS, PROBES, probe_file
from mubench.records.result import RESULT
from mubench.records.store import Store

INDEX = ".index"
GRAIN = 0.02  # seconds that a file system's clock may stand still
LIBRARIES = ("numpy", "scipy", "scikit-learn", "pandas", "pyarrow")
SPARE = 64  # useless lines that do not matter
HEAD = re.compile(rb"[^\t]*\t(?P<code>[^\t]*)\t(?P<name>[^\t]*)\t(?P<references>[^\t]*)\t")


class Index:
    """The index of a folder of results.

    root: the folder.
    lines: folder of a result → references → line.
    runs: folder of a result → its `StoredRun`, where a line is believed; of those that `scan` was asked for.
    """

    def __init__(self, root):
        self.root, self.path = Path(root), Path(root) / INDEX
        self.lines, self.runs, self.kept, total = {}, {}, [], 0
        self.submission = submission_of(
            self.root / "task/model/method/ratio/id"
        )  # of what lies at its place in a store
        for line in self._read():
            total += 1
            found = HEAD.match(line)
            if found and found["code"] == code():
                self.lines.setdefault(found["name"], {})[found["references"]] = line
        if total > 2 * sum(map(len, self.lines.values())) + SPARE:
            self._rewrite()

    # -- reading

    def scan(self, wanted):
        """The folders of results below the root, and those of runs that failed, as `Store.scan` gives them.

        wanted: (folder) → whether its run is asked for.
        """
        known = set()
        for text, lines in self.lines.items():
            name = from_json(text)
            if wanted(name) and (run := self._believed(name, lines)):
                self.runs[name] = run
            if name in self.runs or not wanted(name):
                known.add(name)
        return Store(self.root).scan(known)

    def run(self, name):
        """The `StoredRun` in a folder below the root. Raises `MubenchError` where its record is of no use."""
        if (run := self.runs.get(name)) is None:
            folder = self.root / name
            before = stamp(folder)
            run = StoredRun.read(folder)
            run.stamp = stamp(folder, run.result.probed)
            if not run.stamp.startswith(before):
                raise MubenchError("it was written to while it was read")
            run.index = self
        return run

    def _believed(self, name, lines):
        """The run that some lines are of, with what was computed of it; None where no line is believed."""
        run, folder = None, f"{self.root}/{name}"
        for references, line in lines.items():
            checksum, _, text = line.partition(b"\t")
            with contextlib.suppress(ValueError):
                *_, probes, stamped, facts, outcome = text.split(b"\t")
                if int(checksum, 16) == zlib.crc32(text) and stamp(folder, from_json(probes)) == stamped:
                    if run is None:
                        submission = self.submission if name.count("/") == 4 else submission_of(folder)
                        run = StoredRun(folder, submission, from_json(facts), index=self, stamp=stamped)
                    run.checked[references] = outcome
        return run

    # -- writing

    def keep(self, run, references):
        """Remember what the values of a run are, for the references that are named by a text."""
        self.kept.append((run, references, dict(run.values), run.roc))

    def save(self):
        """Append what is to be kept, unless the folder is a submission's or the file somebody else's."""
        kept, self.kept = self.kept, []
        if not kept or any(
            os.path.lexists(place / SUBMISSION) for place in [*self.root.absolute().parents[:1], self.root]
        ):
            return
        newest = max(max(map(int, run.stamp.split()[3::4])) for run, *_ in kept)  # of a change, which nobody can choose
        if (young := newest / 1e9 + GRAIN - time.time()) > 0:
            time.sleep(min(young, GRAIN))  # whatever is changed from now on has another time
        lines = [
            _line(self.root, *each) for each in kept if stamp(each[0].folder, each[0].result.probed) == each[0].stamp
        ]
        with contextlib.suppress(OSError):
            if self._ours():
                handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                try:
                    os.write(handle, b"\n".join([b"", *lines, b""]))  # at once; what was cut off before ends here
                finally:
                    os.close(handle)

    # -- the file

    def _read(self):
        with contextlib.suppress(OSError):
            if self._ours():
                with self.path.open("rb") as lines:
                    yield from filter(None, map(bytes.rstrip, lines))

    def _ours(self):
        """Whether the file is this user's, or not there: somebody else's may hold anything."""
        user = getattr(os, "getuid", lambda: 0)()
        return not os.path.lexists(self.path) or os.lstat(self.path).st_uid == user

    def _rewrite(self):
        """Write the file anew, with the lines that are of use."""
        here = {folder: lines for folder, lines in self.lines.items() if (self.root / json.loads(folder)).is_dir()}
        with contextlib.suppress(OSError, MubenchError), whole(self.path) as path:
            path.write_bytes(b"\n".join([line for lines in here.values() for line in lines.values()] + [b""]))


def _line(root, run, references, values, roc):
    """The line of a run, with what came of it."""
    name = Path(run.folder).relative_to(root).as_posix()
    name, probes, *told = map(_text, (name, [*run.result.probed], run.facts, [values, roc]))
    text = b"\t".join([code(), name, references, probes, run.stamp, *told])
    return b"%08x\t%s" % (zlib.crc32(text), text)


def _text(value):
    """A part of a line: JSON, which holds no tab and no end of line."""
    return json.dumps(value, separators=(",", ":")).encode()


def stamp(folder, probes=()):
    """What the file system says of a result's folder and files, as a text: inode, size and times of each."""
    found = []
    for name in ("", RESULT, PREDICTIONS, *([PROBES, *map(probe_file, probes)] if probes else ())):
        try:
            about = os.lstat(f"{folder}/{name}")
            found.append(b"%d %d %d %d" % (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
        except OSError:
            found.append(b"0 0 0 0")
    return b" ".join(found)


@functools.cache
def code():
    """A hash of the code that reads and computes, and of what it calls: lines of other code are not believed."""
    folders = [Path(part.__file__).parent for part in (metrics, trust, records)]
    names = ("stored.py", "recompute.py", "index.py", "rows.py", "columns.py", "escape.py")
    files = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    files += [Path(__file__).parent / name for name in names] + [Path(part.__file__) for part in (spec, splits)]
    added = [f"{m.name} {fingerprint(m.compute)}" for m in metrics.METRICS.values() if m.name not in metrics.SUITE]
    names = [f"{old} {new.name}" for old, new in registry.methods.renamed.items()]
    libraries = [f"{name} {version(name)}" for name in LIBRARIES]
    parts = [path.read_bytes() for path in files] + [text.encode() for text in (*added, *names, *libraries)]
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16].encode()
