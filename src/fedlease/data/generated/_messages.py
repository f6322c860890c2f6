"""Messages to a shop: an opinion and a report or a request, in either order.

`tone` asks whether the opinion is good, `requests` whether the writer asks for something. Either half is
drawn without a look at the other, so the one says nothing about the other's label.
"""

from __future__ import annotations

from fedlease.data.generated import Pick, sentence, words

GOOD = words(
    "wonderful, excellent, superb, delightful, pleasant, brilliant, reliable, comfortable, charming, "
    "impressive, splendid, flawless, sturdy, elegant, refreshing, outstanding, lovely, "
    "generous, thoughtful, satisfying"
)
BAD = words(
    "awful, terrible, dreadful, disappointing, shabby, clumsy, unreliable, uncomfortable, ugly, poor, "
    "miserable, faulty, flimsy, tasteless, tiresome, useless, horrible, careless, rude, annoying"
)
MATTERS = words(
    "the packaging, the quality, the delivery, the finish, the colour, the service, the advice on the phone, "
    "the design, the first impression, the fabric, the sound, the manual, the taste, the whole experience, "
    "the staff, the website, the workmanship, the price"
)
THINGS = words(
    "lamp, kettle, jacket, tent, bicycle, printer, mattress, radio, suitcase, blender, chair, camera, "
    "keyboard, stove, ladder, carpet, mirror, heater, drill, umbrella"
)
PARTS = ("charger", "spare key", "user guide", "receipt", "second cable", "replacement lid", "warranty card")
# Each goes with what has happened and with what is asked for, so it tells neither.
WHEN = words(
    "on Monday, this week, today, by post, at no cost, at the weekend, in March, before the holidays, "
    "on Friday, this morning, in person"
)


PLAIN = (
    "{matter} was {same}",
    "I found {matter} {same}",
    "{matter} turned out to be {same}",
    "my family thinks {matter} is {same}",
    "{matter} is really {same}",
    "{matter} may look {other} at first, yet it is {same}",
)
NEGATED = (
    "{matter} was not {other} at all",
    "nobody could call {matter} {other}",
    "{matter} was anything but {other}",
    "{matter} is hardly {other}",
    "say what you like, {matter} was never {other}",
)
REPORT = (
    "the {thing} arrived {when}",
    "you sent me the {part} for the {thing} {when}",
    "someone from your shop picked up the {thing} {when}",
    "I asked for the {part} {when} and it was in the box with the {thing}",
    "the {thing} has been standing in the hall since you brought it {when}",
    "as you could see {when}, the {thing} came with the {part}",
    "thank you for sending the {part} for my {thing} {when}",
    "please note that the {part} for the {thing} was here {when}",
    "is it not a surprise that the {thing} came {when}?",
    "I needed someone to look at the {thing}, and your people did so {when}",
    "you asked whether I would like to have the {part}, and I took it {when}",
)
REQUEST = (
    "could you send me the {part} for the {thing} {when}?",
    "I would like to have the {part} of the {thing} {when}",
    "is it possible to exchange the {thing} {when}?",
    "someone has to look at the {thing} {when}",
    "the {part} for my {thing} is missing, so let me have it {when}",
    "I would be glad of the {part} for the {thing} {when}",
    "can somebody tell me {when} where the {part} of the {thing} is?",
    "the {thing} has to be collected {when}, and I count on you for that",
    "thank you for picking up the {thing} {when}, since it has been standing in the hall",
    "the {part} did not come {when}, and I still wait for it",
    "you promised me the {part}, so it had better be here {when}",
)


def message(pick: Pick, good: bool, asks: bool) -> str:
    """Write one message with this opinion, and a request or a report."""
    same, other = (GOOD, BAD) if good else (BAD, GOOD)
    opinion = pick.one(NEGATED if pick.chance(0.25) else PLAIN).format(
        matter=pick.one(MATTERS), same=pick.one(same), other=pick.one(other)
    )
    matter = pick.one(REQUEST if asks else REPORT).format(
        thing=pick.one(THINGS), part=pick.one(PARTS), when=pick.one(WHEN)
    )
    return " ".join(map(sentence, pick.order([opinion, matter])))
