"""The things the micro world shows, and which drawing of which artist shows them.

An *artist* is one icon set. Three artists are trained on, three teach the judge, one is kept for
tests; a drawing belongs to exactly one of the three parties.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

View = Literal["whole", "face", "other"]
Party = Literal["model", "judge", "test"]


@dataclass(frozen=True)
class Artist:
    """One icon set: a consistent hand."""

    name: str
    """Name of the iconify set, ``noto`` in ``@iconify-json/noto``."""
    party: Party
    """Who may learn from it."""
    style: str | None
    """Word the captions use for this hand; None for artists no caption names."""


@dataclass(frozen=True)
class Drawing:
    """One drawing of one concept."""

    concept: str
    artist: str
    icon: str
    view: View
    """What is shown: "whole" is what a caption with the bare noun means, "face" a head alone,
    "other" a variant (a palm for a tree). Only "whole" drawings teach the image decoder."""

    @property
    def key(self) -> str:
        """Name of the drawing in manifests, ``noto/dog``."""
        return f"{self.artist}/{self.icon}"


@dataclass(frozen=True)
class Concept:
    """A thing with a plain English name."""

    name: str
    plural: str
    kind: Literal["animal", "instrument", "vehicle", "plant", "food", "thing", "sky"]


ARTISTS: dict[str, Artist] = {
    artist.name: artist
    for artist in (
        Artist("noto", "model", "cartoon"),
        Artist("twemoji", "model", "flat"),
        Artist("fluent-emoji-flat", "model", "modern"),
        Artist("emojione", "judge", None),
        Artist("noto-v1", "judge", None),
        Artist("streamline-emojis", "judge", None),
        Artist("fxemoji", "test", None),
    )
}

STYLES: dict[str, str] = {a.style: a.name for a in ARTISTS.values() if a.style is not None}
"""Style word of a caption -> name of the artist it stands for."""

CONCEPTS: dict[str, Concept] = {
    concept.name: concept
    for concept in (
        Concept("dog", "dogs", "animal"),
        Concept("cat", "cats", "animal"),
        Concept("horse", "horses", "animal"),
        Concept("cow", "cows", "animal"),
        Concept("pig", "pigs", "animal"),
        Concept("rooster", "roosters", "animal"),
        Concept("sheep", "sheep", "animal"),
        Concept("duck", "ducks", "animal"),
        Concept("frog", "frogs", "animal"),
        Concept("owl", "owls", "animal"),
        Concept("penguin", "penguins", "animal"),
        Concept("elephant", "elephants", "animal"),
        Concept("fish", "fish", "animal"),
        Concept("turtle", "turtles", "animal"),
        Concept("lion", "lions", "animal"),
        Concept("tiger", "tigers", "animal"),
        Concept("bear", "bears", "animal"),
        Concept("monkey", "monkeys", "animal"),
        Concept("rabbit", "rabbits", "animal"),
        Concept("bee", "bees", "animal"),
        Concept("ladybug", "ladybugs", "animal"),
        Concept("snail", "snails", "animal"),
        Concept("spider", "spiders", "animal"),
        Concept("octopus", "octopuses", "animal"),
        Concept("dolphin", "dolphins", "animal"),
        Concept("whale", "whales", "animal"),
        Concept("snake", "snakes", "animal"),
        Concept("camel", "camels", "animal"),
        Concept("crocodile", "crocodiles", "animal"),
        Concept("butterfly", "butterflies", "animal"),
        Concept("bird", "birds", "animal"),
        Concept("mouse", "mice", "animal"),
        Concept("goat", "goats", "animal"),
        Concept("koala", "koalas", "animal"),
        Concept("guitar", "guitars", "instrument"),
        Concept("violin", "violins", "instrument"),
        Concept("trumpet", "trumpets", "instrument"),
        Concept("saxophone", "saxophones", "instrument"),
        Concept("drum", "drums", "instrument"),
        Concept("piano", "pianos", "instrument"),
        Concept("car", "cars", "vehicle"),
        Concept("bus", "buses", "vehicle"),
        Concept("bicycle", "bicycles", "vehicle"),
        Concept("airplane", "airplanes", "vehicle"),
        Concept("helicopter", "helicopters", "vehicle"),
        Concept("rocket", "rockets", "vehicle"),
        Concept("sailboat", "sailboats", "vehicle"),
        Concept("truck", "trucks", "vehicle"),
        Concept("tractor", "tractors", "vehicle"),
        Concept("train", "trains", "vehicle"),
        Concept("motorcycle", "motorcycles", "vehicle"),
        Concept("ship", "ships", "vehicle"),
        Concept("fire engine", "fire engines", "vehicle"),
        Concept("sunflower", "sunflowers", "plant"),
        Concept("mushroom", "mushrooms", "plant"),
        Concept("tree", "trees", "plant"),
        Concept("cactus", "cacti", "plant"),
        Concept("tulip", "tulips", "plant"),
        Concept("apple", "apples", "food"),
        Concept("banana", "bananas", "food"),
        Concept("strawberry", "strawberries", "food"),
        Concept("pear", "pears", "food"),
        Concept("lemon", "lemons", "food"),
        Concept("pineapple", "pineapples", "food"),
        Concept("watermelon", "watermelons", "food"),
        Concept("pizza", "pizzas", "food"),
        Concept("hamburger", "hamburgers", "food"),
        Concept("ice cream", "ice creams", "food"),
        Concept("house", "houses", "thing"),
        Concept("umbrella", "umbrellas", "thing"),
        Concept("key", "keys", "thing"),
        Concept("balloon", "balloons", "thing"),
        Concept("bell", "bells", "thing"),
        Concept("telephone", "telephones", "thing"),
        Concept("candle", "candles", "thing"),
        Concept("camera", "cameras", "thing"),
        Concept("crown", "crowns", "thing"),
        Concept("book", "books", "thing"),
        Concept("clock", "clocks", "thing"),
        Concept("castle", "castles", "thing"),
        Concept("anchor", "anchors", "thing"),
        Concept("snowman", "snowmen", "thing"),
        Concept("star", "stars", "sky"),
        Concept("rainbow", "rainbows", "sky"),
        Concept("sun", "suns", "sky"),
        Concept("moon", "moons", "sky"),
        Concept("cloud", "clouds", "sky"),
    )
}

# Most sets follow the Unicode names: one icon a concept, named like it unless listed here.
_UNICODE_NAMES = {
    "sheep": "ewe",
    "car": "automobile",
    "apple": "red-apple",
    "tree": "deciduous-tree",
    "bee": "honeybee",
    "ladybug": "lady-beetle",
    "whale": "spouting-whale",
    "piano": "musical-keyboard",
    "truck": "delivery-truck",
    "train": "locomotive",
    "fire engine": "fire-engine",
    "ice cream": "soft-ice-cream",
    "book": "closed-book",
    "clock": "alarm-clock",
    "moon": "crescent-moon",
    "snowman": "snowman-without-snow",
}
_UNICODE_FACES = {
    "dog": ("dog-face",),
    "cat": ("cat-face",),
    "horse": ("horse-face",),
    "cow": ("cow-face",),
    "pig": ("pig-face",),
    "tiger": ("tiger-face",),
    "monkey": ("monkey-face",),
    "rabbit": ("rabbit-face",),
    "mouse": ("mouse-face",),
}
_UNICODE_OTHERS = {
    "dog": ("poodle", "guide-dog", "service-dog"),
    "cat": ("black-cat",),
    "sheep": ("ram",),
    "fish": ("tropical-fish", "blowfish"),
    "car": ("oncoming-automobile", "sport-utility-vehicle", "taxi", "racing-car"),
    "bus": ("oncoming-bus", "trolleybus"),
    "airplane": ("small-airplane",),
    "mushroom": ("brown-mushroom",),
    "tree": ("evergreen-tree", "palm-tree", "christmas-tree"),
    "apple": ("green-apple",),
    "house": ("house-with-garden", "derelict-house"),
    "umbrella": ("closed-umbrella", "umbrella-with-rain-drops"),
    "key": ("old-key",),
    "drum": ("long-drum",),
    "star": ("glowing-star",),
    "whale": ("whale",),
    "camel": ("two-hump-camel",),
    "snowman": ("snowman",),
}
# The older sets stop before these entered Unicode.
_ABSENT_FROM_OLDER_SETS = {"guide-dog", "service-dog", "black-cat", "brown-mushroom", "long-drum"}
_OLDER_SETS = ("emojione", "noto-v1")


def _named_alike(concepts: str) -> dict[str, dict[View, tuple[str, ...]]]:
    """List concepts, parted by spaces, whose whole icon bears their name."""
    return {concept: {"whole": (concept,)} for concept in concepts.split()}


# The two sets with names of their own: concept -> icons by view, the concepts they lack left out.
_OWN_NAMES: dict[str, dict[str, dict[View, tuple[str, ...]]]] = {
    "fxemoji": {
        "dog": {"whole": ("dogside",), "face": ("dog",)},
        "cat": {"whole": ("catside",), "face": ("cat",)},
        "horse": {"whole": ("horse",), "face": ("horseface",)},
        "cow": {"whole": ("cow",), "face": ("cowface",)},
        "pig": {"whole": ("pigside",), "face": ("pig",)},
        "tiger": {"whole": ("tigerside",), "face": ("tiger",)},
        "sheep": {"whole": ("sheep",), "other": ("ram",)},
        "fish": {"whole": ("fish",), "other": ("tropicalfish",)},
        "car": {"whole": ("automobile",), "other": ("oncomingautomobile", "taxi", "racecar")},
        "bus": {"whole": ("bus",), "other": ("oncomingbus",)},
        "tree": {"whole": ("deciduoustree",), "other": ("palmtree", "christmastree")},
        "apple": {"whole": ("redapple",), "other": ("greenapple",)},
        "house": {"whole": ("housebuilding",), "other": ("housewithgarden",)},
        "umbrella": {"whole": ("umbrellawithraindrops",), "other": ("umbrella",)},
        "key": {"whole": ("key",), "other": ("oldkey",)},
        "star": {"whole": ("whitemediumstar",), "other": ("star",)},
        "monkey": {"whole": ("monkey",), "face": ("monkeyface",)},
        "mouse": {"whole": ("mouseside",), "face": ("mouse",)},
        "snowman": {"whole": ("snowmanwithoutsnow",)},
        "bee": {"whole": ("honeybee",)},
        "ladybug": {"whole": ("ladybeetle",)},
        "whale": {"whole": ("spurtingwhale", "whale")},
        "camel": {"whole": ("dromedarycamel", "bactriancamel")},
        "piano": {"whole": ("musicalkeyboard",)},
        "truck": {"whole": ("deliverytruck",)},
        "train": {"whole": ("steamlocomotive",)},
        "fire engine": {"whole": ("fireengine",)},
        "pizza": {"whole": ("sliceofpizza",)},
        "ice cream": {"whole": ("softicecream",), "other": ("icecream",)},
        "telephone": {"whole": ("blacktelephone",)},
        "book": {"whole": ("closedbook",)},
        "clock": {"whole": ("alarmclock",)},
        "castle": {"whole": ("europeancastle",)},
        "sun": {"whole": ("sunrays",)},
        "moon": {"whole": ("crescentmoon",)},
        **_named_alike(
            "rooster frog penguin elephant turtle guitar violin trumpet saxophone bicycle "
            "airplane helicopter rocket sailboat sunflower mushroom banana strawberry "
            "rainbow balloon bear snail spider octopus dolphin snake crocodile tractor "
            "motorcycle ship cactus tulip pear lemon pineapple bell watermelon hamburger "
            "candle camera crown anchor cloud goat koala"
        ),
    },
    "streamline-emojis": {
        "dog": {"whole": ("dog",), "face": ("dog-face",)},
        "cat": {"whole": ("cat",), "face": ("cat-face",)},
        "horse": {"whole": ("horse",), "face": ("horse-face",)},
        "cow": {"whole": ("cow",), "face": ("cow-face",)},
        "pig": {"whole": ("pig",), "face": ("pig-face",)},
        "tiger": {"whole": ("tiger",), "face": ("tiger-face",)},
        "sheep": {"whole": ("ewe-1",), "face": ("ewe-2",)},
        "penguin": {"face": ("penguin-1", "penguin-2")},
        "frog": {"whole": ("frog-face",)},
        "lion": {"whole": ("lion-face",)},
        "fish": {"other": ("tropical-fish", "blowfish")},
        "car": {"whole": ("automobile",), "other": ("taxi", "oncoming-taxi")},
        "tree": {"other": ("palm-tree", "christmas-tree")},
        "apple": {"whole": ("red-apple",)},
        "house": {"other": ("house-with-garden",)},
        "umbrella": {"whole": ("umbrella",), "other": ("closed-umbrella",)},
        "sunflower": {"whole": ("sunflower-1", "sunflower-2")},
        "strawberry": {"whole": ("strawberry-1", "strawberry-2")},
        "bear": {"whole": ("bear-face",)},
        "monkey": {"whole": ("monkey",), "face": ("monkey-face",)},
        "rabbit": {"whole": ("rabbit",), "face": ("rabbit-face",)},
        "mouse": {"whole": ("mouse",), "face": ("mouse-face",)},
        "bee": {"whole": ("honeybee",)},
        "ladybug": {"whole": ("lady-beetle",)},
        "whale": {"whole": ("spouting-whale",)},
        "piano": {"whole": ("musical-keyboard",)},
        "truck": {"whole": ("delivery-truck",)},
        "train": {"whole": ("locomotive",)},
        "fire engine": {"whole": ("fire-engine",)},
        "cactus": {"whole": ("cactus-1", "cactus-2")},
        "watermelon": {"whole": ("watermelon-1", "watermelon-2")},
        "pizza": {"whole": ("pizza-1", "pizza-2")},
        "hamburger": {"whole": ("hamburger-1", "hamburger-2")},
        "ice cream": {"whole": ("soft-ice-cream-1", "soft-ice-cream-2")},
        "moon": {"whole": ("crescent-moon",)},
        "cloud": {"whole": ("cloud-1", "cloud-2")},
        **_named_alike(
            "rooster elephant turtle guitar violin trumpet saxophone bus bicycle airplane "
            "helicopter rocket sailboat mushroom rainbow balloon snail octopus dolphin "
            "snake camel crocodile tractor ship tulip pear lemon bell telephone crown "
            "castle anchor goat koala snowman"
        ),
    },
}


def _icons(artist: str, concept: str) -> dict[View, tuple[str, ...]]:
    if artist in _OWN_NAMES:
        return _OWN_NAMES[artist].get(concept, {})
    absent = _ABSENT_FROM_OLDER_SETS if artist in _OLDER_SETS else set()
    others = _UNICODE_OTHERS.get(concept, ())
    return {
        "whole": (_UNICODE_NAMES.get(concept, concept),),
        "face": _UNICODE_FACES.get(concept, ()),
        "other": tuple(icon for icon in others if icon not in absent),
    }


@cache
def drawings(party: Party) -> tuple[Drawing, ...]:
    """List every drawing a party may use, concept by concept, in a fixed order."""
    return tuple(
        Drawing(concept, artist.name, icon, view)
        for concept in CONCEPTS
        for artist in ARTISTS.values()
        if artist.party == party
        for view, icons in _icons(artist.name, concept).items()
        for icon in icons
    )
