"""Units behind a value. An expected 5 cm is answered by 5, by 5 cm, and not by 5 m."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAMES = {
    "mm": "mm millimeter millimetre", "cm": "cm centimeter centimetre", "m": "m meter metre",
    "km": "km kilometer kilometre", "in": "in inch inche", "ft": "ft foot feet", "yd": "yd yard",
    "mi": "mi mile", "g": "g gram", "kg": "kg kilogram", "mg": "mg milligram", "lb": "lb pound",
    "oz": "oz ounce", "s": "s sec second", "min": "min minute", "h": "h hr hour", "day": "day",
    "week": "week", "year": "year yr", "cent": "cent", "dollar": "dollar", "l": "l liter litre",
    "ml": "ml milliliter millilitre", "degree": "degree deg", "rad": "rad radian",
}  # fmt: skip
_KNOWN = {name: unit for unit, names in _NAMES.items() for name in names.split()}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}

# Words behind a value: \text{ inches}^2, square feet. They follow a digit or a closed bracket.
_UNIT = re.compile(
    r"(?P<value>.*[\d)}])\s*(?P<unit>\\degree|\\?%|(?:\\text\s*\{(?P<text>[^{}]*)\}|"
    r"\s(?P<words>[A-Za-z]{2,}(?:[ ./-]+[A-Za-z]+)*))(?:\^\{?(?P<power>\d)\}?)?)\s*",
    re.DOTALL,
)


@dataclass(frozen=True)
class Unit:
    """A unit and its power. `name` is "" for none, "?" for one that is not known."""

    name: str = ""
    power: int = 1

    def agrees(self, other: Unit) -> bool:
        """False if both are known and differ."""
        return self == other or not {self.name, other.name}.isdisjoint({"", "?", "%"})


def without_unit(text: str) -> tuple[str, Unit]:
    """The text without its unit, and the unit."""
    if text.startswith(r"\$"):
        return text[2:].strip(), Unit("dollar")
    found = _UNIT.fullmatch(text)
    if found is None:
        return text, Unit()
    return found["value"].strip(), _unit(found)


def _unit(found: re.Match[str]) -> Unit:
    words = re.findall(r"[a-z]+", (found["text"] or found["words"] or "").casefold())
    if found["unit"] in ("%", r"\%") or words[:1] in (["percent"], ["percentage"], ["pct"]):
        return Unit("%")
    if found["unit"] == r"\degree":
        return Unit("degree")
    power = int(found["power"] or 1)
    for word in words:
        power = _POWERS.get(word, power)
    names = {_KNOWN.get(word) or _KNOWN.get(word.removesuffix("s")) for word in words} - {None}
    # "cm per second", "boxes of 5 kg": not one unit.
    return Unit(names.pop(), power) if len(names) == 1 and len(words) <= 2 else Unit("?")  # type: ignore[arg-type]
