"""How a story is put together.

A template is a string in which `[a|b|c]` stands for one of its alternatives (they nest, and may be empty) and `{name}`
for a slot of the story: the hero `{h}`, the friend `{f}`, their pronouns, a place, a thing, or a slot of the plot's own.
A story is an opening, the beats of one plot in order, and an ending. Everything a story names is drawn once and kept, so
names, pronouns, things and places stay the same from its first sentence to its last.
"""

import random
import re

from . import cast

INNERMOST = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{([A-Za-z_]+)\}")


def table(columns, rows):
    """Rows of a plot's own slots: `columns` is a string of names, each row a tuple of templates."""
    names = columns.split()
    for row in rows:
        if len(row) != len(names):
            raise ValueError(f"table({columns!r}): a row of {len(names)} templates is wanted, found {row!r}")
    return [dict(zip(names, row)) for row in rows]


def expand(template, slots, rng):
    """Draws every choice and fills every slot of `template`; a slot may itself hold a template."""
    for _ in range(40):
        before = template
        while match := INNERMOST.search(template):
            choice = rng.choice(match.group(1).split("|"))
            template = template[: match.start()] + choice + template[match.end() :]
        template = SLOT.sub(lambda m: fill(m, slots, rng), template)
        if template == before:
            return template
    raise ValueError(f"the template does not come to an end: {template!r}")


def fill(match, slots, rng):
    name = match.group(1)
    if name == "H":  # the hero again: by name or by pronoun
        return slots["h"] if rng.random() < 0.5 else slots["he"]
    if name not in slots:
        raise KeyError(f"no slot is named {{{name}}}")
    if name in ("f", "a_f", "a_fkind"):
        # A friend whom nothing has introduced yet is "his friend Ann", unless the sentence says so anyway.
        first, slots["met"] = "met" not in slots, True
        around = match.string[max(0, match.start() - 40) : match.end() + 40]
        if name == "f" and first and "friend" not in around:
            return slots["his"] + " friend " + slots["f"]
    return slots[name]


SAID = "said|went|asked|shouted|called|cried|thought|whispered|told|sang"
SPEECH_TAG = re.compile(rf"(?:{SAID})\b|(?:he|she|it|they|everyone|people|came|was|the \w+|\w+) (?:{SAID}|the|both|all)\b")


def capital(text):
    """Sentences begin with a capital letter; what follows `!"` or `?"` does not where it only says who spoke."""

    def begin(match):
        end, quote, letter = match.groups()
        tag = end.strip() in ('!"', '?"') and not quote and SPEECH_TAG.match(text, match.start(3))
        return match[0] if tag else end + quote + letter.upper()

    return re.sub(r"(^|[.!?]\"? +|[.!?]\"?\n+)(\"?)([a-z])", begin, text)


def tidy(text):
    """Spaces, `a`/`an` and capital letters of a finished story."""
    text = re.sub(r" +", " ", text).strip()
    text = re.sub(r" ([.,!?])", r"\1", text)
    text = re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", text)
    return re.sub(r"(?<!said, )\"([a-z])", lambda m: '"' + m[1].upper(), capital(text))


def pronouns(girl, prefix):
    he, him, his = ("she", "her", "her") if girl else ("he", "him", "his")
    return {prefix + "he": he, prefix + "him": him, prefix + "his": his}


def character(rng, prefix, girl, animal, avoid, named=True):
    """Slots of one character: {h} {a_h} {the_h} {kind} {hv} {home} and the pronouns, under `prefix`."""
    if animal:
        kind, home = rng.choice([a for a in cast.ANIMALS if a[0] not in avoid])
        small = rng.choice(["little", "little", "young", "small", "gray" if kind in ("mouse", "cat", "kitten", "pony") else "tiny"
                            if kind in ("mouse", "bird", "frog", "mole") else "little"])
        name = rng.choice([n for n in (cast.PET_GIRLS if girl else cast.PET_BOYS) if n not in avoid])
    else:
        kind, home = ("girl" if girl else "boy"), rng.choice(cast.HUMAN_HOMES)
        small = rng.choice(["little", "little", "young", "small"])
        name = rng.choice([n for n in (cast.GIRLS if girl else cast.BOYS) if n not in avoid])
    if not animal:
        named = True
    slots = {
        "h": name if named else f"the {kind}",
        "hv": name if named else f"little {kind}",
        "a_h": f"a {small} {kind}" + (rng.choice([f" named {name}", f" named {name}", f" called {name}"]) if named else ""),
        "a_kind": f"a {small} {kind}",
        "the_h": f"the {small} {kind}" + (rng.choice([f" {name}", f", {name},"]) if named else ""),
        "kind": kind,
        "home": home,
    }
    if prefix:  # the friend is {f} where the hero is {h}
        rename = {"h": "f", "hv": "fv", "a_h": "a_f", "a_kind": "a_fkind", "the_h": "the_f", "kind": "fkind", "home": "fhome"}
        slots = {rename[key]: value for key, value in slots.items()}
    return slots | pronouns(girl, prefix), {kind, name}


def world(rng, plot):
    """Draws everything that stays the same in one story."""
    want = plot.get("hero", "any")
    animal = {"any": rng.random() < 0.5, "animal": True, "human": False}[want]
    girl = rng.random() < 0.5
    slots, avoid = character(rng, "", girl, animal, set(), named=rng.random() < 0.85)
    # A friend of the other sex keeps "he" and "she" clear in most stories.
    friend_girl = not girl if rng.random() < 0.85 else girl
    friend_animal = {"any": animal if rng.random() < 0.8 else not animal, "animal": True, "human": False}[plot.get("friend", "any")]
    friend, _ = character(rng, "f", friend_girl, friend_animal, avoid, named=rng.random() < 0.75)
    adult, adult_name, adult_he = rng.choice(cast.ADULTS)
    place, spot, view = rng.choice([p for p in cast.PLACES if p[0] not in plot.get("not_at", ())])
    color = rng.choice(cast.COLORS)
    toy, find, wear = rng.choice(cast.TOYS), rng.choice(cast.FINDS), rng.choice(cast.WEAR)
    look = rng.choice(["", "", "shiny ", "new ", "old ", "small ", "big ", "pretty "])
    slots |= friend | pronouns(adult_he == "she", "p") | {
        "p": f"{slots['his']} {adult}", "P": adult_name, "place": place, "spot": spot, "view": view, "color": color,
        "toy": toy, "a_toy": f"a {look}{color} {toy}", "c_toy": f"{color} {toy}",
        "find": find, "a_find": f"a {look}{color} {find}", "c_find": f"{color} {find}",
        "wear": wear, "a_wear": f"a {look}{color} {wear}", "c_wear": f"{color} {wear}",
        "food": rng.choice(cast.FOODS), "love": rng.choice(cast.LOVES), "trait": rng.choice(cast.TRAITS),
        "number": rng.choice(["two", "three", "four", "five"]),
        "His": slots["his"], "fHe": friend["fhe"],
        "day": rng.choice(["day", "day", "day", "morning", "afternoon"]),
    }
    if plot.get("rows"):
        row = rng.choice(plot["rows"])
        slots |= row | {"the_" + key: re.sub("^an? ", "the ", value) for key, value in row.items()}
    return slots


# Openings: those that say "one day" already leave the plot's first beat to begin in another way.
OPENINGS = [
    "Once upon a time, there was {a_h}. {about}",
    "Once upon a time, there was {a_h}. {H} lived {home}. {about}",
    "Once upon a time, there was {a_h} who [loved|liked] to {love}. [{H} lived {home}.||]",
    "Once upon a time, there lived {a_h}. {about}",
    "Once upon a time, {a_h} lived {home}. {about}",
    "Once upon a time, in a [small village|big forest|land far away|green valley|quiet town|little house], there lived {a_h}. {about}",
    "There was once {a_h} who lived {home}. {about}",
    "There once was {a_h}. {H} lived {home}. {about}",
    "Long ago, {a_h} lived {home}. {about}",
    "A long time ago, there was {a_h}. {about}",
    "{h} was a [little|small|young] {kind} who lived {home}. {about}",
    "{h} was a {trait} [little|young] {kind}. {H} loved to {love}.",
    "{h} lived {home}. {about}",
    "{h} loved to {love}. {H} was a {trait} [little|young] {kind}.",
    "{a_h} lived {home}. {about}",
    "In a [small village|big forest|quiet town|little house by the woods|green valley], there lived {a_h}. {about}",
    "{the_h} lived {home}. {about}",
    "{the_h} [loved|liked] to {love}. [{H} lived {home}.||]",
    "This is the story of {a_h}. {about}",
    "Far away, over the hills, there lived {a_h}. {about}",
]
OPENINGS_DAY = [
    "One day, {a_h} was [playing|walking|sitting] [outside|near {place}|by {him}self near {place}].",
    "One [morning|day], {a_h} woke up early. [The sun was shining.|The sky was blue.|It was a fine day.|{H} felt happy.]",
    "One day, {a_h} went for a walk [with {p}|near {place}|after breakfast|in the sun].",
    "It was a [sunny|bright|fine|warm|quiet|beautiful] {day}. {a_h} was [playing outside|walking near {place}|looking out of the window].",
    "The [day|morning] was [warm|bright|fine|cool and clear]. {a_h} was [playing outside|walking near {place}|sitting in front of {his} house].",
    "{the_h} was [hungry|bored|in a good mood|up early]. It was a [fine|lovely|quiet] {day}.",
    "The sun was shining, and the sky was blue. {a_h} was [playing outside|walking near {place}|on {his} way to {place}].",
    "{the_h} [woke up|got up] early. [{H} yawned and stretched.|The sun was just coming up.|It was a lovely day.]",
    "{h} woke up [early|with a smile|and looked out of the window]. [It was a [fine|lovely|sunny] day.|The sun was shining.]",
    "It was Saturday, and {h} had nothing to do.",
]
ABOUT = [
    "{H} loved to {love}.", "{H} loved to {love}.", "{H} liked to {love} [every day|all day long|when the sun was out].",
    "{H} was very {trait}.", "{H} was {trait}, and {he} loved to {love}.", "Every day, {H} liked to {love}.",
    "{H} had many friends.", "{H} was [small|little], but {he} had a big heart.", "Everyone liked {him}, because {he} was so {trait}.",
    "{H} was a very {trait} {kind}.", "[{H} had soft fur and bright eyes.|{H} loved to {love}.]", "",
]

FEELINGS = [
    "{h} was [very |so |]happy.", "{h} felt [warm and happy inside|proud|happy and safe|very proud].", "{h} smiled [all day|all the way home|from ear to ear].",
    "{h} had a big smile on {his} face.", "{h} was [so |]glad.", "It was the best day ever.", "{h} laughed [with joy|and clapped|and jumped up and down].",
    "", "", "What a [wonderful|lovely|good] day it was!",
]
CLOSINGS = [
    "[And they all|They all|They] lived happily ever after.", "The end.", "The end.", "", "", "", "",
    "That night, {h} [fell asleep with a smile|slept very well|dreamed sweet dreams].",
    "And from that day on, {h} and {f} were [best|good|the best of] friends.", "{h} never forgot that day.",
    "Then {h} went home [for dinner|to tell {p} all about it|, tired but happy].", "And so the day came to [a happy|an] end.",
]


def tell(rng, plots):
    """One story, as one paragraph or a few, with the name of its plot."""
    name = rng.choice(sorted(plots))
    plot = plots[name]
    slots = world(rng, plot)
    slots["about"] = rng.choice(ABOUT)
    draw = rng.random()
    day = slots["day"]
    beats = plot["beats"]
    if draw < 0.22:  # the plot's own opening says what its first beat (or first two) would
        opening, started, beats = rng.choice(plot["openings"]), True, beats[plot.get("skip", 1) :]
    elif draw < 0.36 and not plot.get("night"):
        opening, started = rng.choice(OPENINGS_DAY), True
    else:
        opening, started = rng.choice(OPENINGS), False
    slots["one_time"] = rng.choice(["one morning", "one day", "all of a sudden", "at last"])
    slots["One_day"] = rng.choice(["", "", "Then", "Soon,", "After a while,"] if started else
                                  [f"One {day},", f"One {day},", f"One {day},", f"One [sunny|fine|warm|bright|quiet] {day},"])
    slots["one_day"] = slots["One_day"][:1].lower() + slots["One_day"][1:]
    parts = [opening]
    for beat in beats:
        optional = beat[0] == "?"
        if not (optional and rng.random() < 0.5):
            parts.append(rng.choice(beat[1:] if optional else beat))
    parts = [expand(part, slots, rng) for part in parts]
    ending = ["" if plot.get("quiet_end") else rng.choice(FEELINGS)]
    if plot.get("morals") and rng.random() < 0.45:
        ending.append(rng.choice(plot["morals"]))
    ending.append(rng.choice(["", "The end."] if plot.get("quiet_end") else [
        c for c in CLOSINGS if ("{f}" not in c or "met" in slots) and not ("went home" in c and plot.get("at_home"))]))
    parts.append(expand(" ".join(ending), slots, rng))
    gap = rng.choice([" ", " ", "\n\n"])  # one paragraph, or three: opening and beginning, middle, end
    if gap != " ":
        third = max(2, len(parts) // 3)
        parts = [" ".join(parts[:third]), " ".join(parts[third:-2]), " ".join(parts[-2:])]
    return name, tidy(gap.join(part for part in parts if part))


def corpus(seed, count, plots):
    """`count` different stories; the same seed gives the same stories."""
    rng = random.Random(seed)
    seen = set()
    while len(seen) < count:
        _, story = tell(rng, plots)
        if story not in seen:
            seen.add(story)
            yield story
