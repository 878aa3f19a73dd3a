"""Extracts the facts that ship in ``data/people-*.parquet`` from WordNet 3.0; nothing of its wording but names and
single nouns.

apt-get download wordnet-base && dpkg -x wordnet-base_*.deb deb
python -m mubench.tasks.generation.makers.people deb/usr/share/wordnet/data.noun tasks/generation/data
"""

import collections
import re
import sys
from pathlib import Path

SIZES = {"train": 1000, "test": 400}
NATIONALITIES = (
    """American Argentinian Australian Austrian Belgian Brazilian British Canadian Chinese Czech Danish Dutch Egyptian
    English Finnish Flemish French German Greek Hungarian Indian Irish Israeli Italian Japanese Mexican Norwegian Polish
    Portuguese Romanian Russian Scottish Soviet Spanish Swedish Swiss Turkish Welsh""".split()
    + [
        "South African",
        "New Zealand",
    ]
)
PERSON = "18"  # the lexicographer file noun.person
TITLES = {"old master": "painter", "film maker": "film-maker"}
COMMON = 5  # how many of the people must share a profession
AGES = range(10, 111)  # WordNet has a few years that cannot be true, or are those of a reign


def read(path):
    """Synset offset → (lexicographer file, lemmas, offsets of the classes it is an instance of, gloss), as in
    wndb(5WN).
    """
    synsets = {}
    for line in Path(path).read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):  # the licence
            continue
        fields, gloss = line.split(" | ", 1)
        offset, file, _, count, *rest = fields.split()
        words, pointers = 2 * int(count, 16), rest[2 * int(count, 16) + 1 :]
        classes = [target for sign, target in zip(pointers[::4], pointers[1::4], strict=True) if sign == "@i"]
        synsets[offset] = file, [word.replace("_", " ") for word in rest[:words:2]], classes, gloss.strip()
    return synsets


def people(synsets):
    """Facts of everyone with a name of several words, both years, a nationality at the head of the gloss and a common
    profession.
    """
    found = {}
    for file, names, classes, gloss in synsets.values():
        years = re.search(r"\((\d{4})-(\d{4})\)$", gloss)
        nationality = next(
            (n for n in NATIONALITIES if gloss.replace("United States", "American", 1).startswith(f"{n} ")), None
        )
        name = next((n for n in names if " " in n and n[0].isupper()), None)
        if file != PERSON or not (years and nationality and name) or int(years[2]) - int(years[1]) not in AGES:
            continue
        nouns = [synsets[target][1][0] for target in classes]
        origin = re.search(r"\(born in ([A-Z]\w+)\)", gloss)
        found.setdefault(
            name,
            {
                "name": name,
                "nationality": nationality,
                "professions": list(dict.fromkeys(TITLES.get(n, n) for n in nouns)),
                "born": int(years[1]),
                "died": int(years[2]),
                "country": origin[1] if origin else "",
            },
        )
    held = collections.Counter(noun for person in found.values() for noun in person["professions"])
    for person in found.values():
        person["professions"] = [n for n in person["professions"] if n.islower() and held[n] >= COMMON]
    return [person for person in found.values() if person["professions"]]


if __name__ == "__main__":
    import pyarrow
    import pyarrow.parquet

    from mubench.splits import rank

    everyone = people(read(sys.argv[1]))
    order, begin = rank([f"people/{person['name']}" for person in everyone]), 0
    for part, size in SIZES.items():
        table = pyarrow.Table.from_pylist([everyone[i] for i in order[begin : begin + size]])
        pyarrow.parquet.write_table(
            table, f"{sys.argv[2]}/people-{part}.parquet", compression="zstd", compression_level=19
        )
        begin += size
    print(f"{begin} of {len(everyone)} people")
