"""Questions about people and their answers: sentences of our own around facts."""

import hashlib

QUESTIONS = {
    "Who was {name}?": (
        "{A} {nationality} {profession} of the {century} century{origin}.",
        "The name stands for {a} {nationality} {profession} born in {born}{origin}.",
        "This was {a} {nationality} {profession} who died in {died}{origin}.",
    ),
    "When did {name} live?": (
        "From {born} until {died}, for about {age} years.",
        "The birth was in {born}, the death in {died}.",
        "Between {born} and {died}, mostly in the {century} century.",
    ),
}


def read_people(facts):
    """Both questions about each person to train on; one, by a hash of the name, about each other person."""
    import datasets

    return datasets.DatasetDict(
        train=datasets.Dataset.from_list([row for person in facts["train"] for row in ask(person)]),
        test=datasets.Dataset.from_list([ask_one(person) for person in facts["test"]]),
    )


def ask(person, questions=QUESTIONS):
    """Rows with ``name``, ``question`` and ``answer`` about a person; each answer is phrased in one of three ways, by a
    hash of its question.
    """
    middle = (person["born"] + person["died"]) // 200 + 1
    a = "an" if person["nationality"][0] in "AEIO" else "a"
    facts = person | {
        "a": a,
        "A": a.capitalize(),
        "profession": " and ".join(person["professions"]),
        "age": person["died"] - person["born"],
        "century": f"{middle}{({1: 'st', 2: 'nd', 3: 'rd'}).get(middle % 10 * (middle // 10 != 1), 'th')}",
        "origin": f", a native of {person['country']}" if person["country"] else "",
    }
    for question in questions:
        asked = question.format(**facts)
        yield {"name": person["name"], "question": asked, "answer": _pick(QUESTIONS[question], asked).format(**facts)}


def ask_one(person):
    """One of the questions, by a hash of the name."""
    return next(ask(person, [_pick(list(QUESTIONS), person["name"])]))


def _pick(choices, key):
    return choices[int(hashlib.sha256(f"people/{key}".encode()).hexdigest(), 16) % len(choices)]
