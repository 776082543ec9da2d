from dataclasses import dataclass, field, fields

import pytest

from nabla_core.config_metadata import NOT_SHAPING
from pipeline.config_reference import (
    COMMANDS,
    Meaning,
    meanings,
    reference,
    sections,
    summary,
    table,
)
from tests.pipeline.test_config import JOBS, ROOT

CLASSES = {config.__name__: config for job in COMMANDS.values() for config in (job, *sections(job))}


def test_the_reference_is_of_every_command_that_takes_a_config():
    assert COMMANDS == JOBS


@pytest.mark.parametrize("config", CLASSES.values(), ids=CLASSES.keys())
def test_every_key_has_a_meaning_and_every_meaning_a_key(config):
    documented = meanings(config)
    assert documented.keys() == {f.name for f in fields(config)}
    assert all(meaning.text.endswith(".") for meaning in documented.values())
    assert summary(config)


def test_the_reference_in_the_repository_is_up_to_date():
    written = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    assert written == reference(), "run `make docs`"


@dataclass(frozen=True)
class Section:
    """A section.

    Attributes:
        rate: A rate.
    """

    rate: float = 0.5


@dataclass(frozen=True)
class Base:
    """A base.

    Attributes:
        seed: Of all draws.
        part: A section.
    """

    seed: int = 0
    part: Section = field(default_factory=lambda: Section(rate=2.0))


@dataclass(frozen=True)
class Settings(Base):
    """Settings of a test.

    More of them.

    Attributes:
        wait (s): A time that is described
            on two lines.
        seed: Another meaning.
        names: `a|b`.
    """

    wait: float = field(default=1.0, metadata=NOT_SHAPING)
    names: tuple[str, ...] | None = None


def test_meanings_are_read_from_the_docstring_and_from_those_of_base_classes():
    assert meanings(Settings) == {
        "seed": Meaning("", "Another meaning."),
        "part": Meaning("", "A section."),
        "wait": Meaning("s", "A time that is described on two lines."),
        "names": Meaning("", "`a|b`."),
    }
    assert summary(Settings) == "Settings of a test.\n\nMore of them."


def test_a_table_has_a_line_a_key():
    assert list(table(Settings))[2:] == [
        "| `seed` | integer | `0` |  | Another meaning. |  |",
        "| `part` | [Section](#section) | `rate: 2.0` |  | A section. |  |",
        "| `wait` | number | `1.0` | s | A time that is described on two lines. | yes |",
        "| `names` | list of texts or null | `null` |  | `a\\|b`. |  |",
    ]
