"""What is written on signs and labels: words, numbers, and characters without a meaning."""

from __future__ import annotations

import random

from pgbench.demo.draws import pick, whole
from pgbench.demo.lettering import CHARACTERS

WORDS = tuple(
    (
        "STOP CAFE OPEN BANK TAXI MILK FISH PARK EXIT SHOP BOOK GOLD LAKE RAIN MOON STAR HOTEL BREAD MARKET "
        "TRAIN PIZZA FRUIT LUNCH COFFEE TEA BUS CAR TOY GIFT MUSIC RADIO PHONE PAPER GLASS WATER RIVER BEACH "
        "NORTH SOUTH EAST WEST LEFT RIGHT ENTRY CLOSED SALE FREE FUEL GAS OIL TOOLS PAINT FARM ZOO CITY ROAD "
        "STREET BRIDGE TOWER MUSEUM CINEMA SOUP CAKE SUGAR HONEY JUICE WINE QUEEN KING JAZZ ROCK DANCE YOGA "
        "SPORT GYM POOL SPA HAIR SHOES HATS GARDEN TREES PETS DOGS CATS BIRDS HORSE VET LAW TAX MAIL POST"
    ).split()
)
LETTERS, DIGITS = CHARACTERS[:26], CHARACTERS[26:]


def text(generator: random.Random, longest: int) -> str:
    """At most `longest` characters, and at most four where they have no meaning."""
    kind = generator.random()
    if kind < 0.4:
        return pick(generator, [word for word in WORDS if len(word) <= longest])
    characters, least = (LETTERS, 2) if kind < 0.7 else (DIGITS, 1)
    return "".join(pick(generator, characters) for _ in range(whole(generator, least, 4)))
