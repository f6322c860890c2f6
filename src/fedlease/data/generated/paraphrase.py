"""Do two news sentences say the same? One is active, one passive; in half the pairs some details differ."""

from __future__ import annotations

from fedlease.data.generated import Pick, sentence

LABELS = ("different", "same")

# Every detail has several wordings: a pair that says the same need not share them.
ACTORS = (
    ("the city council", "the council of the city"),
    ("a young scientist", "a researcher in her twenties"),
    ("the football club", "the soccer team"),
    ("the police", "officers of the law"),
    ("a retired teacher", "a former schoolmaster"),
    ("the bakery", "the bread shop"),
    ("two fishermen", "a pair of anglers"),
    ("the hospital", "the clinic"),
)
DEEDS = (
    ("bought", "was purchased by"),
    ("found", "was discovered by"),
    ("repaired", "was mended by"),
    ("sold", "was put on the market by"),
    ("lost", "was mislaid by"),
    ("burnt", "was set on fire by"),
    ("painted", "was given a coat of colour by"),
    ("stole", "was unlawfully taken by"),
)
OBJECTS = (
    ("an old boat", "a vessel of great age"),
    ("a gold watch", "a watch made of gold"),
    ("the school bus", "the bus for pupils"),
    ("a rare painting", "an uncommon work of art"),
    ("a wooden house", "a home built of timber"),
    ("the church organ", "the organ of the church"),
    ("a red tractor", "a farm vehicle in red"),
    ("a box of letters", "a case full of mail"),
)
PLACES = (
    ("in the harbour", "at the port"),
    ("in the mountains", "high up in the hills"),
    ("near the airport", "close to the airfield"),
    ("in a village in France", "in a French village"),
    ("at the market", "on the market square"),
    ("in the desert", "amid the sand dunes"),
)
DETAILS = (ACTORS, DEEDS, OBJECTS, PLACES)


def texts(pick: Pick, label: int) -> tuple[str, ...]:
    """Make an active and a passive sentence, in either order; 0: some details of the second are others."""
    details = [pick.one(choices) for choices in DETAILS]
    changed = list(details)
    if label == 0:
        for which in pick.order(range(len(DETAILS)))[: pick.number(1, 3)]:
            changed[which] = pick.other(DETAILS[which], details[which])
    forms = pick.order([_active, _passive])
    return forms[0](pick, details), forms[1](pick, changed)


def _active(pick: Pick, details: list[tuple[str, str]]) -> str:
    actor, deed, thing, place = details
    return sentence(f"{pick.one(actor)} {deed[0]} {pick.one(thing)} {pick.one(place)}")


def _passive(pick: Pick, details: list[tuple[str, str]]) -> str:
    actor, deed, thing, place = details
    return sentence(f"{pick.one(place)}, {pick.one(thing)} {deed[1]} {pick.one(actor)}")
