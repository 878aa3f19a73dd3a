"""Recomputes with mubench what the official codes of metrics gave on tiny problems; the figures lie in ``*.json`` here.

``FAMILIES`` maps a pattern of entry ids to ``replay(entry, file)``, which answers with values nested as in
``entry["expected"]``, computed from the entry's inputs and the problem of its file.
"""

import json
import re
from pathlib import Path

import numpy as np

from mubench.measure.metrics import arrays

OWN = json.loads((Path(__file__).parent / "metrics.json").read_text())


def logits_of(file, theta, x):
    """The problem's tiny network: ``theta`` names its parameters, ``x`` its inputs, possibly a slice such as
    X_r[:6].
    """
    values, (d, h, c) = file["problem_values"], (file["problem"]["dims"][k] for k in "DHC")
    w1, b1, w2, b2 = np.split(np.array(values[theta]), np.cumsum([h * d, h, c * h]))
    return np.tanh(sliced(values, x) @ w1.reshape(h, d).T + b1) @ w2.reshape(c, h).T + b2


def sliced(values, name):
    """``values["X_r"][:6]`` for the name ``X_r[:6]``."""
    key, start, colon, stop = re.fullmatch(r"(\w+)(?:\[(\d*)(:)(\d*)\])?", name).groups()
    return np.array(values[key])[int(start or 0) : int(stop) if stop else None] if colon else np.array(values[key])


def membership_sets(entry, file):
    """Logits and labels of the membership problem that the entry names, as ``{"retain_logits": …, "retain_labels":
    …}``.
    """
    name = entry["inputs"].get("logits", "mia_problem")
    known = {e["id"]: e for f in (OWN, file) for e in f["entries"]}
    return mia_problem(known[name], file)


def features(entry, file):
    """``feature(name)``: the attacked features of a set such as "retain[:20]", by kind; None for no set."""
    values = membership_sets(entry, file)

    def feature(name):
        if name is None:
            return None
        key, _, part = name.partition("[")
        part = part and "[" + part
        return arrays.membership_features(sliced(values, f"{key}_logits{part}"), sliced(values, f"{key}_labels{part}"))

    return feature


def mia_problem(entry, file):
    definition, _, groups = entry["inputs"]["formula"].partition(";")
    scale, classes, shift, modulus = re.search(
        r"=([\d.]+)\*sin\(a\+b\*\((\d+)i\+j\)\), *label=\(i\*i\+(\d+)\)%(\d+)", definition
    ).groups()
    values = {}
    for name, n, a, b, off in re.findall(r"(\w+) n=(\d+) a=([\d.-]+) b=([\d.-]+) off=([\d.-]+)", groups):
        i, j = np.arange(int(n))[:, None], np.arange(int(classes))
        labels = (i * i + int(shift)) % int(modulus)
        values[f"{name}_logits"] = (
            float(scale) * np.sin(float(a) + float(b) * (int(classes) * i + j)) + float(off) * (labels == j)
        ).tolist()
        values[f"{name}_labels"] = labels[:, 0].tolist()
    return values


def svc(entry, file):
    feature = features(entry, file)
    roles = {
        "shadow_members": "shadow_train",
        "shadow_nonmembers": "shadow_test",
        "members": "target_train",
        "nonmembers": "target_test",
    }
    sets = {role: feature(entry["inputs"].get(name)) for role, name in roles.items()}
    return {kind: arrays.svc_attack(**{role: f and f[kind] for role, f in sets.items()}) for kind in entry["expected"]}


def badt_svc(entry, file):
    feature = features(entry, file)
    retain, test, forget = (feature(name)["entropy"] for name in ("retain", "test", "forget"))
    return {"mean_pred_member_on_forget": 1 - arrays.svc_attack(retain, test, nonmembers=forget)}


def scrub(entry, file):
    inputs, values = entry["inputs"], membership_sets(entry, file)
    losses = {}
    for name, n, label in re.findall(r"(\w+) (?:first )?(\d+) \(label ([01])\)", inputs["features"]):
        logits, labels = np.array(values[f"{name}_logits"]), np.array(values[f"{name}_labels"])
        losses[label] = -np.log(arrays.membership_features(logits, labels)["confidence"])[: int(n)]
    clip = re.search(r"\[-([\d.]+), *\1\]", inputs["features"])
    folds = arrays.logistic_attack(
        losses["1"],
        losses["0"],
        clip=float(clip[1]) if clip else np.inf,
        n_splits=inputs["n_splits"],
        random_state=inputs["random_state"],
    )
    return {"fold_acc": folds.tolist(), "mean": folds.mean()}


def badt_zrf(entry, file):
    inputs = entry["inputs"]
    model, incompetent = (logits_of(file, inputs[role], inputs["x"]) for role in ("model", "incompetent"))
    coded = arrays.reversed_js(model, incompetent).mean() / model.shape[1]
    textbook = arrays.js_divergence(model, incompetent).mean()
    return {"zrf": 1 - coded, "JSDiv_as_coded": coded, "textbook_mean_JS_nats": textbook, "textbook_zrf": 1 - textbook}


def mubench_mean(entry, file):
    cases = entry["inputs"]["cases(dt,df,orig_dt,random)"]
    return {"values": [arrays.harmonic_mean(1 - abs(dt - orig), 1 - abs(df - guess)) for dt, df, orig, guess in cases]}


def mubench_gap_zrf(entry, file):
    """All draws of noise are the closed-form one that ``how`` names; those of D_r average to the exact knowledge
    gap.
    """
    logits, correct = {}, {}
    for name in ("dr", "df"):
        theta, x = entry["inputs"][name].split(" on ")
        logits[name] = logits_of(file, theta, x)
        correct[name] = logits[name].argmax(axis=1) == sliced(file["problem_values"], x.replace("X", "y"))
    k = np.arange(logits["df"].size).reshape(logits["df"].shape)
    phase, frequency = map(float, re.search(r"\(sin\(([\d.]+)\+([\d.]+)k\)\+1\)/2", entry["how"]).groups())
    noise = (np.sin(phase + frequency * k) + 1) / 2
    return {
        "knowledge_gap": arrays.auc(correct["dr"], correct["df"]),
        "zrf": 1 - arrays.js_divergence(logits["df"], noise).mean(),
    }


FAMILIES = {
    r"mia_problem.*": mia_problem,
    r"mia_svc_.*": svc,
    r"mia_scrub_lr_loss.*": scrub,
    r"mia_badt_entropy_svc.*": badt_svc,
    r"zrf_official.*": badt_zrf,
    r"mubench_harmonic_mean.*": mubench_mean,
    r"mubench_knowledge_gap_zrf.*": mubench_gap_zrf,
}
