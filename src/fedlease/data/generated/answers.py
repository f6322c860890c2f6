"""Does the sentence answer the question? If not, it tells something else, of the same thing or of another."""

from __future__ import annotations

from fedlease.data.generated import Pick, sentence, words

LABELS = ("answers", "does_not")

NAMES = words(
    "Harlow, Weston, Kirkby, Ashdown, Merrow, Linton, Selby, Thorne, Wexcombe, Dunmore, Calder, Ramsey, "
    "Oakham, Penrith, Stroud, Melrose, Tarbet, Whitby, Corby, Yarrow"
)
KINDS = ("bridge", "museum", "theatre", "library", "station", "lighthouse", "mill", "stadium")
PEOPLE = ("Ada Holm", "Peter Lund", "Maria Costa", "Jonas Weir", "Clara Voss", "Samir Haddad", "Ines Moreau")
PLACES = ("the river bank", "a steep hill", "the old market", "the northern coast", "the edge of the forest")
CAUSES = ("a leaking roof", "a fire in the cellar", "a lack of visitors", "a dispute over land", "a flood")
STUFFS = ("red brick", "local granite", "oak and glass", "white marble", "steel and timber")

# What is asked -> ways to ask it, and facts that answer it, as the rest of a sentence about the thing.
FACTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "opened": (
        ("When was {it} opened?", "In what year did {it} open?"),
        ("welcomed its first guests in {year}", "has been in use since {year}"),
    ),
    "designer": (
        ("Who designed {it}?", "Who was the architect of {it}?"),
        ("was drawn by {person}", "is the work of {person}"),
    ),
    "place": (
        ("Where is {it}?", "Where can {it} be found?"),
        ("stands on {place}", "lies close to {place}"),
    ),
    "closed": (
        ("Why was {it} closed for a while?", "What made {it} shut its doors?"),
        ("had to shut because of {cause}", "was out of use for a year after {cause}"),
    ),
    "visitors": (
        ("How many people visit {it} each year?", "How many visitors does {it} have?"),
        ("draws {count} thousand people every year", "counts {count} thousand visitors a year"),
    ),
    "cost": (
        ("How much did {it} cost?", "What was the price of building {it}?"),
        ("took {count} million crowns to build", "was paid for with a loan of {count} million crowns"),
    ),
    "stuff": (
        ("What is {it} made of?", "Which material was used to build {it}?"),
        ("was built of {stuff}", "has walls of {stuff}"),
    ),
}


def texts(pick: Pick, label: int) -> tuple[str, ...]:
    """Make a question and a sentence; 0: it tells what is asked, 1: it tells something else."""
    it = told_of = f"the {pick.one(NAMES)} {pick.one(KINDS)}"
    asked = told = pick.one(tuple(FACTS))
    if label == 1:
        told = pick.other(tuple(FACTS), asked)
        if pick.chance(0.6):
            told_of = f"the {pick.one(NAMES)} {pick.one(KINDS)}"
    fact = pick.one(FACTS[told][1]).format(
        year=pick.number(1820, 1995),
        person=pick.one(PEOPLE),
        place=pick.one(PLACES),
        cause=pick.one(CAUSES),
        count=pick.number(12, 98),
        stuff=pick.one(STUFFS),
    )
    return pick.one(FACTS[asked][0]).format(it=it), sentence(f"{told_of} {fact}")
