"""A folder of results: what lies where, written whole or not at all, each run by one process at a time."""

import contextlib
import json
import os
import shutil
import time
import traceback
from pathlib import Path

from mubench.cache import file_hash, fsync, whole, writing
from mubench.errors import MubenchError
from mubench.records.predictions import PREDICTIONS, probe_file, write_predictions
from mubench.records.result import RESULT, now, read

MODEL, ERROR = "model", "error.json"
LOCKS = ".locks"


class Store:
    """A folder of results. A reader sees a whole result or none; writers of the same run exclude each other.

    root: the folder; it is made when something is written.
    replace: a result takes the place of an earlier one of the same run as a whole; else it keeps what that has besides
        (`complete`).
    """

    def __init__(self, root="results", replace=False):
        self.root, self.replace = Path(root), replace

    # -- reading

    def path(self, spec):
        """The folder of a run."""
        return self.root / spec.folder

    def done(self, spec, curve=False, probes=(), model=False):
        """Whether the result of a run is here, with its curve and its weights where those are asked for, and with these
        `Probe`s.
        """
        if not (self.path(spec) / RESULT).is_file() or model and not (self.path(spec) / MODEL).is_dir():
            return False
        result = read(self.path(spec)) if curve or probes else None
        return (not curve or bool(result.curve)) and all(result.holds(probe) for probe in probes)

    def failed(self, spec, since=0.0):
        """Whether a run failed, at or after a time (seconds since the epoch), and nobody succeeded later."""
        path, result = self.path(spec) / ERROR, self.path(spec) / RESULT
        if result.is_file():
            since = max(since, result.stat().st_mtime)
        return path.is_file() and path.stat().st_mtime >= since

    def results(self):
        """The folders of all finished runs, in a fixed order."""
        return [self.root / name for name in self.scan()[0]]

    def errors(self):
        """What `write_error` recorded of runs that have no result."""
        return [json.loads((self.root / name / ERROR).read_text(encoding="utf-8")) for name in self.scan()[1]]

    def scan(self, known=()):
        """The folders of finished runs, and those of runs that failed and have no result, in a fixed order.

        known: folders of finished runs, which are not looked into if they are there.

        Returns two lists of names relative to the root, with ``/``.
        """
        results, errors, waiting = [], [], [""]
        while waiting:
            above = waiting.pop()
            with contextlib.suppress(OSError), os.scandir(os.path.join(self.root, above)) as entries:
                files = set()
                for entry in entries:
                    name = f"{above}/{entry.name}" if above else entry.name
                    if not entry.is_dir():
                        files.add(entry.name)
                    elif name in known:
                        results.append(name)
                    elif not entry.name.startswith(".") and not entry.is_symlink():  # hidden ones are under way
                        waiting.append(name)
                if RESULT in files:
                    results.append(above)
                elif ERROR in files:
                    errors.append(above)
        return tuple(sorted(names, key=lambda name: name.replace("/", "\0")) for names in (results, errors))

    # -- one writer at a time

    @contextlib.contextmanager
    def hold(self, name):
        """Hold a lock of this name; gives False where another process holds it. The system releases it if we die."""
        from filelock import FileLock, Timeout

        with writing(self.root):
            self._locks().mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._locks() / f"{name}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                lock = None
        try:
            yield lock is not None
        finally:
            if lock:
                lock.release()

    @contextlib.contextmanager
    def claim(self, spec):
        """`hold` a run; what a process that died in the middle of it has left is put in order."""
        with self.hold(spec.id) as ours:
            if ours:
                self._restore(spec)
                for left_over in self.path(spec).parent.glob(f".{spec.id}.*"):
                    shutil.rmtree(left_over, ignore_errors=True)
            yield ours

    def clock(self):
        """The time as the file system tells it, after all files there are.

        It may be coarser than the system's, or another machine's.
        """
        with writing(self.root):
            self._locks().mkdir(parents=True, exist_ok=True)
            times, path = [], self._locks() / "clock"
            while len(set(times)) < 2:
                path.touch()
                times.append(path.stat().st_mtime)
                time.sleep(0.001)
            return times[-1]

    def _locks(self):
        return self.root / LOCKS

    # -- writing

    def write(self, spec, result, frame, model=None, exhibits=None, probes=None):
        """Store a result whole: written aside, synced, renamed. Returns its folder.

        spec: the run.
        result: its `Result`; the checksum of the predictions is put in.
        frame: its predictions.
        model: (folder) → what is kept of the model is written there (None: nothing).
        exhibits: files to lay beside, name → bytes.
        probes: name of each other probe → its predictions; their checksums are put in too.
        """
        final = self.path(spec)
        with writing(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            aside, old = (final.parent / f".{spec.id}.{suffix}" for suffix in (os.getpid(), "old"))
            try:
                aside.mkdir()
                write_predictions(frame, aside / PREDICTIONS)
                for name, content in (exhibits or {}).items():
                    (aside / name).write_bytes(content)
                if model is not None:
                    model(aside / MODEL)
                result.predictions = {"sha256": file_hash(aside / PREDICTIONS), "rows": len(frame)}
                for name, found in (probes or {}).items():
                    path = aside / probe_file(name)
                    path.parent.mkdir(exist_ok=True)
                    write_predictions(found, path)
                    result.probes[name] |= {"sha256": file_hash(path), "rows": len(found)}
                (aside / RESULT).write_text(result.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
                self._place(aside, spec)
            finally:
                self._restore(spec)
                for left_over in (aside, old):
                    shutil.rmtree(left_over, ignore_errors=True)
        return final

    def adopt(self, spec, folder):
        """Put what a run has left elsewhere on the same file system in its place, whole.

        folder: what holds its result, or why it failed.
        """
        final = self.path(spec)
        with writing(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            if not (folder / RESULT).is_file():
                with whole(final / ERROR) as path:
                    path.write_bytes((folder / ERROR).read_bytes())
                return
            try:
                self._place(folder, spec)
            finally:
                self._restore(spec)
                shutil.rmtree(final.parent / f".{spec.id}.old", ignore_errors=True)

    def _place(self, folder, spec):
        """Move a finished folder to where readers look; what was there is kept aside until that is done."""
        final = self.path(spec)
        if not self.replace:
            complete(folder, final)
        for path in [*folder.rglob("*"), folder]:
            fsync(path)
        if final.exists():
            final.rename(final.parent / f".{spec.id}.old")
        folder.rename(final)
        fsync(final.parent)

    def _restore(self, spec):
        """Put back a result that was moved out of the way of a new one that never came."""
        old, final = self.path(spec).parent / f".{spec.id}.old", self.path(spec)
        if old.exists() and not final.exists():
            old.rename(final)

    # -- failures

    @contextlib.contextmanager
    def recording(self, spec, explained):
        """Record what makes the block fail: the reason, and what costs there were until then.

        spec: the run.
        explained: (spec, error, reason) → the reason, with what else is known of it.
        """
        try:
            yield
        except Exception as error:
            foreseen = isinstance(error, MubenchError)
            reason = str(error) if foreseen else explained(spec, error, f"{type(error).__name__}: {error}")
            costs = {"costs": error.costs.asdict()} if hasattr(error, "costs") else {}
            self.write_error(spec, reason, traceback=None if foreseen else traceback.format_exc(), **costs)
            raise

    def write_error(self, spec, reason, **facts):
        """Record that a run failed, and what else is known of it."""
        record = {"spec": spec.model_dump(), "id": spec.id, "reason": reason, "time": now(), **facts}
        with whole(self.path(spec) / ERROR) as path:
            path.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")


def complete(folder, earlier):
    """Add to a new result what an earlier one of the same run has besides: probes, its curve, its weights.

    folder, earlier: of the two results; what is not there, or cannot be read, has nothing.

    Raises `MubenchError` where it has something and its weights and predictions are other ones.
    """
    try:
        old, new = read(earlier), read(folder)
    except MubenchError:
        return
    gave = lambda facts: "error" not in facts
    probes = {n: facts for n, facts in old.probes.items() if n not in new.probes or gave(facts) > gave(new.probes[n])}
    curve, weights = bool(old.curve and not new.curve), (earlier / MODEL).is_dir() and not (folder / MODEL).is_dir()
    if not (probes or curve or weights):
        return
    known = lambda result: (result.weights, result.predictions.get("sha256"))
    if known(old) != known(new):
        has = [*(f"probe {name}" for name in probes), *["a curve"] * curve, *["saved weights"] * weights]
        raise MubenchError(
            f"{earlier} has {', '.join(has)}, which are not of the weights that the run has now, as on another machine:"
            " it is left as it was; replace it with --force, or choose another --out"
        )
    for name, facts in probes.items():
        if gave(facts):
            (folder / probe_file(name)).parent.mkdir(exist_ok=True)
            shutil.copyfile(earlier / probe_file(name), folder / probe_file(name))
    if weights:
        shutil.copytree(earlier / MODEL, folder / MODEL)
    new.probes |= probes
    new.curve = old.curve if curve else new.curve
    new.metrics |= {name: value for name, value in old.metrics.items() if name not in new.metrics}
    (folder / RESULT).write_text(new.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
