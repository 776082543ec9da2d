"""Inputs written and read by tests."""

import json

from pipeline.inputs.prompts import Prompts, read


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def prompts_of(path, **settings):
    return [item.prompt for item in read(Prompts(path=str(path), **settings))]
