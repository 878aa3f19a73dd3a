"""Messenger dialogues with summaries of one or two sentences, from a grammar of our own: the rows behind the mini task
`messenger`.

A scene is a dialogue and its summary. ``[one|another]`` is a choice, possibly of whole turns, ``{place}`` a fact,
``{place2}`` another one of its kind. A dialogue decides all facts of its summary (some it mentions are rejected in the
end), but not which of several wordings it has: that is the annotator's, as in summaries by people, and only a model
that has seen the pair can know it.
"""

import hashlib
import itertools
import re

PEOPLE = {
    "she": "Anna Clara Emma Grace Julia Kate Laura Mia Nora Zoe".split(),
    "he": "Adam Ben David Eric Frank Henry Leo Oscar Paul Tom".split(),
}
FACTS = {
    "place": "the cinema|the library|the park|the cafe|the gym|the museum|the station|the market",
    "time": "at noon|at six|tonight|tomorrow|on Monday|on Friday|on Sunday|next week",
    "activity": (
        "watch a film|have lunch|go for a run|play chess|see the exhibition|cook dinner|learn Spanish|feed the ducks"
    ),
    "thing": "the laptop|the camera|the tent|the umbrella|the guitar|the jacket|the drill|the ladder",
    "mishap": (
        "missed the bus|caught a cold|hurt a knee|overslept|lost the keys|broke a tooth|got stuck in traffic|had"
        " visitors"
    ),
    "event": (
        "got a new job|passed the driving test|won the match|adopted a kitten|found a flat|lost the wallet|crashed the"
        " car|sold the house"
    ),
    "advice": (
        "call the family|take a day off|ask for help|tell everybody|write a letter|sleep on it|calm down|talk to a"
        " friend"
    ),
    "food": "milk|bread|butter|rice|cheese|coffee|honey|pasta",
    "gift": "a scarf|a novel|a plant|a teapot|a football|a necklace|a puzzle|a clock",
    "chore": (
        "paint the kitchen|walk the dog|water the plants|clean the windows|move the sofa|mow the lawn|bake a cake|wash"
        " the car"
    ),
    "price": "20|30|40|50|60|70|80|90",
}
SCENES = {
    "meeting": (
        """\
{a}: [Hi|Hey|Hello] {b}! [Do you want to|Shall we|Would you like to] {activity} {time}?
{b}: [Sure|Of course|Great idea], {a}! Where do we meet?
{a}: [[How about|Maybe at] {place}?
{b}: [Perfect|Good], see you there!|[How about|Maybe at] {place2}?
{b}: [Too far for me|It is closed then]. [Rather|Better] {place}.
{a}: [OK|Fine]!]""",
        "{a} and {b} [will|are going to] {activity} {time}. They [will meet|are meeting] at {place}.",
    ),
    "refusal": (
        """\
{a}: [Hi|Hey] {b}, [are we still going to|do you still want to] {activity} {time}?
{b}: [Sorry|I'm so sorry|Oh no], {a}, I can't [come|make it].
{a}: [Why?|What happened?]
{b}: I {mishap}.
{a}: [No problem|Next time then|What a pity]!""",
        "{b} {mishap}[ and|, so {b_they}] [will not|cannot] {activity} with {a} {time}.",
    ),
    "loan": (
        """\
{a}: [Hi|Hey] {b}! [Do you have|Have you got|Can I borrow] {thing}?
{b}: [Yes|Sure], {a}. When do you need it?
{a}: [{time}, please.
{b}: [I will bring it|OK]!|{time2}.
{b}: [Not then|That is difficult]. {time}?
{a}: [Good|Fine], [thanks|thank you]!]""",
        "{b} will [bring|lend] {a} {thing} {time}.",
    ),
    "news": (
        """\
{a}: [Guess what|Listen], {b}! I {event}.
{b}: [Really|Wow|No way], {a}! When?
{a}: [Yesterday|This morning|Just now].
{b}: [[You should|Then] {advice}!|Did you {advice2}?
{a}: [Yes|Of course].
{b}: Then {advice}!]
{a}: [Good idea|I will|You are right]!""",
        "{a} {event}. {b} [advises|tells] {a_them} to {advice}.",
    ),
    "sale": (
        """\
{a}: [Hi|Hey] {b}! I [am selling|want to sell] [{thing}|{thing} and {thing2}|{thing2} and {thing}].
{b}: [Hi|Hello] {a}! [How much is|What do you want for] {thing}?
{a}: {price} euros.
{b}: [OK|Fine|Deal], I'll take it!""",
        "{b} [will buy|is buying] {thing} from {a} for {price} euros.",
    ),
    "lift": (
        """\
{a}: [Hi|Hey] {b}! [Can|Could] you pick up {c}?
{b}: [Sure|Yes], {a}. Where is {c_they}?
{a}: [[At|{c_they} will be at] {place} {time}.
{b}: [OK|Good]!|[At|{c_they} will be at] {place2}.
{b}: When?
{a}: {time}. No, wait, {c_they} will be at {place}!]""",
        "{b} will [pick up|fetch] {c} at {place} {time}.",
    ),
    "shopping": (
        """\
{b}: [Hi|Hey] {a}! I'm at the [supermarket|shop|grocer's]. Do [we|you] need anything?
{a}: [Yes|Hi|Hello], {b}! {food} and {food2}, please.
{b}: [OK|Sure|No problem]. [Anything else?
{a}: [No, thanks|That is all].|{food3} too?
{a}: No, we have {food3}.]""",
        "{b} [will|is going to] buy {food} and {food2} for {a}.",
    ),
    "present": (
        """\
{a}: [Hi|Hey] {b}! {c} has a birthday party {time}. What can I give {c_them}?
{b}: [Well|Hm], {a}, [[how about|maybe] {gift}?|[how about|maybe] {gift2}?
{a}: {c_they} [has one|does not like that].
{b}: Then {gift}.]
{a}: [Great|Good idea], [thanks|thank you]!""",
        "{a} [will|is going to] give {c} {gift} for the [birthday|party] {time}.",
    ),
    "favour": (
        """\
{a}: [Hi|Hey] {b}! [Could|Can] you help me to {chore} {time}?
{b}: [Only|Yes,] if you {chore2}, {a}!
{a}: [Deal|OK|Agreed]!""",
        "{b} will help {a} to {chore} {time}. {a} will {chore2} [for {b_them}|in return].",
    ),
}
HELD_OUT = {
    "delay": (
        """\
{a}: [Sorry|Oh no], {b}, I will be late [again|today]. I {mishap}.
{b}: [No problem|Don't worry], {a}! We can {activity} later.
{a}: [Where?|Where are you?]
{b}: [I will wait at|At] {place}.""",
        "{a} {mishap} and [will be|is] late. {b} [will wait|is waiting] at {place}.",
    ),
}
CHOICE = re.compile(r"\[([^\[\]]*)\]")  # an innermost one
THEM = {"she": "her", "he": "him"}


def read_dialogues():
    """2,000 dialogues to train on, 250 others, and 200 of a scene that is in neither."""
    import datasets

    rows = make_dialogues("messenger", SCENES, 2250)
    late = make_dialogues("messenger/transfer", HELD_OUT, 200)
    rows = {"train": rows[:2000], "test": rows[2000:], "transfer": late}
    return datasets.DatasetDict({name: datasets.Dataset.from_list(part) for name, part in rows.items()})


def make_dialogues(name: str, scenes: dict, size: int) -> list[dict]:
    """``size`` different rows ``{"dialogue", "summary", "scene"}``, scenes in turn; turns stand on lines of their own.

    ``name`` and an attempt's number decide everything, by SHA-256; no random numbers are involved.
    """
    rows, kinds = {}, itertools.cycle(scenes)
    for attempt, scene in enumerate(kinds):
        if len(rows) == size:
            return list(rows.values())
        draws = _draws(f"{name}/{attempt}")
        facts = _facts(draws)
        dialogue, summary = (_say(template, facts, draws) for template in scenes[scene])
        rows.setdefault(dialogue, {"dialogue": dialogue, "summary": summary, "scene": scene})


def _draws(key):
    """Numbers from 0 to 2³² - 1, without end."""
    for block in itertools.count():
        digest = hashlib.sha256(f"{key}/{block}".encode()).digest()
        yield from (int.from_bytes(digest[i : i + 4], "big") for i in range(0, 32, 4))


def _facts(draws):
    """Three different people, three different facts of each kind."""
    people = [(person, they) for they, names in PEOPLE.items() for person in names]
    facts = {}
    for who in "abc":
        facts[who], they = people.pop(next(draws) % len(people))
        facts |= {f"{who}_they": they, f"{who}_them": THEM[they]}
    for kind, values in FACTS.items():
        values = values.split("|")
        facts |= {f"{kind}{which}": values.pop(next(draws) % len(values)) for which in ("", 2, 3)}
    return facts


def _say(template, facts, draws):
    """The template with choices made and facts put in, sentences beginning with a capital."""
    while "[" in template:
        template = CHOICE.sub(lambda found: (options := found[1].split("|"))[next(draws) % len(options)], template)
    return re.sub(
        r"(^|[.?!:] )([a-z])", lambda found: found[1] + found[2].upper(), template.format(**facts), flags=re.M
    )
